"""A judge with planted faults is audited: each fault is found again; and what is done with it."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from rlaif.auditing import Audit, audit_judge, read_gold
from rlaif.auditing.question import build_question
from rlaif.config.run import EngineConfig, JudgeConfig
from rlaif.engines import Engine
from rlaif.errors import ConfigError, InputError, RecordError
from rlaif.judging import build_judge, judge_comparison
from rlaif.judging.calibration import read_calibration
from rlaif.runs import Ledger
from rlaif.sessions import session
from rlaif.sessions.engines import open_configured
from rlaif.templates import TemplateSet
from tests.auditing.planted import (
    LENGTH_BIAS,
    NOISE,
    POSITION_BIAS,
    PlantedEngine,
    write_gold,
)

PAIRS = 400


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, PlantedEngine]:
    """Model names that stand for planted engines; others are what they always are."""
    planted = {
        "planted": PlantedEngine(),
        "sharp": PlantedEngine(sharpness=3.0, jitter=0.0, position_bias=0.0),
        "coin": PlantedEngine(skill=0.0, length_bias=0.0),
    }

    def open_planted(config: EngineConfig | JudgeConfig) -> Engine:
        return planted.get(config.model) or open_configured(config)

    monkeypatch.setattr(session, "open_configured", open_planted)
    return planted


def config(out: Path, *models: str, **more: Any) -> dict[str, Any]:
    named = [{"name": model, "engine": "scripted", "model": model} for model in models]
    return {"judges": named, "out": str(out), **more}


def audited(tmp_path: Path, *models: str, pairs: int = PAIRS, **more: Any) -> Audit:
    gold = write_gold(tmp_path / "planted.jsonl", pairs)
    return audit_judge(config(tmp_path / "out", *models, **more), [gold])


def test_the_audit_finds_every_planted_fault_within_its_interval(
    tmp_path: Path, engines: dict[str, PlantedEngine]
) -> None:
    found = audited(tmp_path, "planted").judges["planted"].sets["planted"]
    accuracy, bias = found.accuracy.figure, found.position.bias
    length = found.length_log_odds
    assert accuracy is not None
    assert accuracy.holds(1.0 - NOISE)
    assert bias is not None
    assert bias.holds(POSITION_BIAS)
    assert bias.low is not None
    assert bias.high is not None
    assert bias.high - bias.low < 0.2
    assert length is not None
    assert length.holds(LENGTH_BIAS)
    assert not length.holds(0.0)
    assert found.accuracy.against_chance == "above chance"
    fairness = found.position.fairness
    assert fairness is not None
    assert fairness.low is not None
    assert fairness.low > 0.5


def test_the_audit_finds_no_fault_where_none_was_planted(
    tmp_path: Path, engines: dict[str, PlantedEngine]
) -> None:
    engines["planted"] = PlantedEngine(position_bias=0.0, length_bias=0.0, noise=0.0)
    found = audited(tmp_path, "planted").judges["planted"].sets["planted"]
    bias, length = found.position.bias, found.length_log_odds
    assert bias is not None
    assert bias.holds(0.0)
    assert length is not None
    assert length.holds(0.0)
    assert found.accuracy.figure is not None
    assert found.accuracy.figure.value == 1.0


async def test_labels_from_both_orders_are_free_of_the_position_bias(tmp_path: Path) -> None:
    gold = read_gold(write_gold(tmp_path / "g.jsonl", 100))
    question = build_question()

    async def labels(orders: Any, position_bias: float) -> list[float]:
        engine = PlantedEngine(position_bias=position_bias, jitter=0.0)
        templates = TemplateSet.open(None)
        judge = build_judge(
            name="j", method="pairwise", engine=engine, templates=templates, orders=orders
        )
        made = [
            await judge_comparison(
                pair.prompt,
                pair.comparison,
                judges=[(judge, 1.0)],
                drawn=question.candidates,
                candidates=question.candidates,
            )
            for pair in gold.pairs
        ]
        return [one.preference or 0.0 for one in made]

    biased, unbiased = await labels("both", POSITION_BIAS), await labels("both", 0.0)
    assert biased == pytest.approx(unbiased, abs=1e-9)
    one_order = await labels("one", POSITION_BIAS)
    assert max(abs(a - b) for a, b in zip(one_order, unbiased, strict=True)) > 0.1


def test_a_judge_without_skill_is_not_distinguishable_from_chance(
    tmp_path: Path, engines: dict[str, PlantedEngine]
) -> None:
    audit = audited(tmp_path, "coin", pairs=100)
    found = audit.judges["coin"].sets["planted"].accuracy
    assert found.against_chance == "not distinguishable from chance"
    assert audit.notices == ("coin on planted: not distinguishable from chance",)


def test_repeating_an_audit_asks_nothing_and_says_the_same(
    tmp_path: Path, engines: dict[str, PlantedEngine]
) -> None:
    first = audited(tmp_path, "planted", pairs=30)
    asked = engines["planted"].asked
    written = (tmp_path / "out" / "audit.json").read_bytes()
    second = audited(tmp_path, "planted", pairs=30)
    assert asked == 60
    assert engines["planted"].asked == asked
    assert (tmp_path / "out" / "audit.json").read_bytes() == written
    assert first.to_json() == second.to_json()


@pytest.mark.parametrize("name", ["audit.json", "table.md", "calibration-planted.json"])
def test_an_audit_overwrites_no_file_of_the_user(
    name: str, tmp_path: Path, engines: dict[str, PlantedEngine]
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(InputError, match=f"contains {name} but no ledger"):
        audited(tmp_path, "planted", pairs=30)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_audit_writes_json_table_picture_and_calibration(
    tmp_path: Path, engines: dict[str, PlantedEngine]
) -> None:
    audited(tmp_path, "planted", "sharp", pairs=PAIRS)
    out = tmp_path / "out"
    data = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert set(data["judges"]) == {"planted", "sharp", "panel"}
    assert data["gold"]["planted"]["pairs"] == PAIRS
    assert data["alpha"]["planted"]["value"] > 0.5
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "| planted | sharp |" in table
    assert "What these figures cannot tell" in table
    assert (out / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in out.glob("calibration-*")} == {
        "calibration-planted.json",
        "calibration-sharp.json",
    }


def test_an_overconfident_judge_is_calibrated_and_reported_on_prompts_not_fitted_on(
    tmp_path: Path, engines: dict[str, PlantedEngine]
) -> None:
    audited(tmp_path, "sharp", pairs=PAIRS)
    fitted = read_calibration(tmp_path / "out" / "calibration-sharp.json")
    # 10 % noise under log-odds of about ± 4.8: right nine times in ten is ± 2.2.
    assert fitted.t == pytest.approx(4.8 / math.log(9.0), rel=0.35)
    assert fitted.ece_after["value"] < fitted.ece_before["value"]
    assert fitted.nll_after < fitted.nll_before
    assert (fitted.fitted_on, fitted.reported_on, fitted.asked) == (PAIRS, PAIRS, 1)


def test_cost_counts_calls_and_tokens_of_a_pair(
    tmp_path: Path, engines: dict[str, PlantedEngine]
) -> None:
    cost = audited(tmp_path, "planted", pairs=20).judges["planted"].sets["planted"].cost
    assert cost is not None
    assert cost.calls.value == 2.0
    assert cost.completion_tokens == 2.0
    assert cost.price is None
    with Ledger.open(tmp_path / "out" / "ledger.sqlite", read_only=True) as ledger:
        tokens = sum(total.prompt_tokens for total in ledger.totals())
    assert cost.prompt_tokens == tokens / 20


def test_the_estimate_comes_first_and_counts_every_call(
    tmp_path: Path, engines: dict[str, PlantedEngine]
) -> None:
    gold = write_gold(tmp_path / "planted.jsonl", 40)
    seen: list[Any] = []
    audit_judge(
        config(tmp_path / "out", "planted"),
        [gold],
        on_estimate=lambda found: seen.append((found, engines["planted"].asked)),
    )
    ((estimates, asked),) = seen
    assert asked == 4  # two pairs in both orders
    assert estimates[0].calls == 80
    assert engines["planted"].asked == 80


def test_other_words_make_another_judge(tmp_path: Path, engines: dict[str, PlantedEngine]) -> None:
    gold = [write_gold(tmp_path / "planted.jsonl", 10)]
    templates = tmp_path / "words" / "judge"
    templates.mkdir(parents=True)
    plain = TemplateSet.open(None).get("judge/pairwise").path.read_text(encoding="utf-8")
    (templates / "pairwise.j2").write_text(plain.replace("You compare", "Compare"), "utf-8")
    one = audit_judge(config(tmp_path / "a", "planted"), gold)
    other = audit_judge(config(tmp_path / "b", "planted", templates=str(tmp_path / "words")), gold)
    assert one.judges["planted"].fingerprint != other.judges["planted"].fingerprint


def test_gold_is_sampled_by_content_and_broken_lines_are_counted(tmp_path: Path) -> None:
    path = write_gold(tmp_path / "g.jsonl", 50)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines.insert(3, "{broken")
    lines.insert(5, '{"prompt": "p", "response_a": "a", "response_b": "b", "label": "c"}')
    path.write_text("\n".join(lines), encoding="utf-8")
    small, large = read_gold(path, limit=10), read_gold(path, limit=20)
    path.write_text("\n".join(reversed(lines)), encoding="utf-8")
    turned = read_gold(path, limit=10)
    assert {pair.id for pair in small.pairs} == {pair.id for pair in turned.pairs}
    assert {pair.id for pair in small.pairs} < {pair.id for pair in large.pairs}
    assert [(f.record_id, f.kind) for f in large.failures] == [
        ("g.jsonl:4", "bad-json"),
        ("g.jsonl:6", "bad-label"),
    ]
    assert large.read == 52


def test_gold_without_a_pair_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "g.jsonl").write_text('{"prompt": "p"}\n', encoding="utf-8")
    with pytest.raises(RecordError, match="no usable gold pair"):
        audit_judge(config(tmp_path / "out", "echo"), [tmp_path / "g.jsonl"])
    assert not (tmp_path / "out").exists()


def test_an_audit_needs_a_folder_and_takes_one_question(tmp_path: Path) -> None:
    gold = [write_gold(tmp_path / "g.jsonl", 5)]
    with pytest.raises(ConfigError, match="out"):
        audit_judge({"judges": [{"engine": "scripted", "model": "echo"}]}, gold)
    both = config(tmp_path / "out", "echo", constitution="hhh", principle="Be brief.")
    with pytest.raises(ConfigError, match="not both"):
        audit_judge(both, gold)


def test_a_judge_that_samples_is_asked_again_with_other_seeds(tmp_path: Path) -> None:
    gold = [write_gold(tmp_path / "g.jsonl", 12)]
    reasoning = {"chain_of_thought": True, "temperature": 1.0}
    judge = {
        "name": "cot",
        "engine": "scripted",
        "model": "judge-random",
        "method": "pairwise",
        "pairwise": reasoning,
    }
    found = audit_judge({"judges": [judge], "out": str(tmp_path / "o"), "repeat_pairs": 8}, gold)
    stability = found.judges["cot"].sets["g"].stability
    assert stability is not None
    assert stability.n == 8
    assert 1 / 3 < stability.value < 1.0
    plain = audit_judge(config(tmp_path / "p", "judge-random"), gold)
    assert plain.judges["judge-random"].sets["g"].stability is None


def test_an_audit_works_inside_a_running_loop(
    tmp_path: Path, engines: dict[str, PlantedEngine]
) -> None:
    async def inside() -> Audit:
        return audited(tmp_path, "planted", pairs=10)

    assert asyncio.run(inside()).gold["planted"]["pairs"] == 10
