"""From an evaluation file to files on disk, and back without asking anything twice."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlaif.config import load_config
from rlaif.config.evaluate import EvaluateConfig
from rlaif.config.run import EngineConfig, JudgeConfig
from rlaif.engines import Engine
from rlaif.errors import ConfigError, EngineMissing, InputError, RunLocked, RunMismatch
from rlaif.evaluation import evaluate, read_scorecard
from rlaif.runs import Ledger
from rlaif.runs.lock import RunLock
from rlaif.sessions import session
from rlaif.sessions.engines import open_configured
from tests.evaluation.factories import Talker

FILES = {"scorecard.json", "responses.jsonl", "report.md"}


class Closing(Talker):
    """Notes that it was closed."""

    closed = 0

    async def aclose(self) -> None:
        type(self).closed += 1


def open_or_talk(config: EngineConfig | JudgeConfig) -> Engine:
    if config.model == "shouter":
        return Closing("shouter", lambda text, seed: f"{text.upper()} {seed % 100}" + "!" * 3)
    return open_configured(config)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two models that differ, ten prompts, and one record that is none."""
    monkeypatch.setattr(session, "open_configured", open_or_talk)
    Closing.closed = 0
    prompts = [{"id": f"p{i}", "text": f"Tell me about {i}.", "tags": ["t"]} for i in range(10)]
    lines = [*map(json.dumps, prompts), "{broken"]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {
        "name": "test",
        "prompts": {
            "path": str(tmp_path / "prompts.jsonl"),
            "column": "text",
            "id_column": "id",
            "tags_column": "tags",
        },
        "constitution": "concise",
        "models": [
            {"name": "base", "engine": "scripted", "model": "echo"},
            {"name": "policy", "engine": "scripted", "model": "shouter"},
        ],
        "baseline": "base",
        "likelihood_under": "baseline",
        "sampling": {"n": 2},
        "out": str(tmp_path / "out"),
    }


def calls(out: str) -> Counter[str]:
    """How many calls were paid for, by purpose."""
    with Ledger.open(Path(out) / "ledger.sqlite", read_only=True) as ledger:
        paid: Counter[str] = Counter()
        for total in ledger.totals():
            paid[total.purpose] += total.calls
        return paid


def test_an_evaluation_writes_scorecard_responses_and_report(config: dict[str, Any]) -> None:
    card = evaluate(config)
    out = Path(config["out"])
    assert {path.name for path in out.iterdir()} >= FILES
    assert read_scorecard(out / "scorecard.json") == card
    rows = [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]
    assert Counter(row["model"] for row in rows) == {"base": 20, "policy": 20}
    assert set(rows[0]["values"]) >= {"rules", "length/words", "likelihood", "refusals"}
    assert "1 records of the prompts were left out (bad-json 1)" in card.notices
    assert "change of policy" in (out / "report.md").read_text(encoding="utf-8")


def test_the_scorecard_is_the_mean_of_the_values_in_the_responses(config: dict[str, Any]) -> None:
    card = evaluate(config)
    lines = (Path(config["out"]) / "responses.jsonl").read_text().splitlines()
    words = [
        row["values"]["length/words"] for row in map(json.loads, lines) if row["model"] == "policy"
    ]
    assert card.estimate("policy", "length/words").estimate == pytest.approx(sum(words) / 20)


def test_a_finished_evaluation_is_not_run_again(config: dict[str, Any]) -> None:
    first = evaluate(config)
    before = {p.name: p.stat().st_mtime_ns for p in Path(config["out"]).iterdir()}
    assert evaluate(config) == first
    assert {p.name: p.stat().st_mtime_ns for p in Path(config["out"]).iterdir()} == before


def test_measuring_again_asks_no_model(config: dict[str, Any]) -> None:
    first = evaluate(config)
    paid = calls(config["out"])
    assert paid == {"evaluate": 40, "likelihood": 40}
    assert evaluate(config, again=True) == first
    assert calls(config["out"]) == paid


def test_an_interrupted_evaluation_resumes_where_it_stopped(config: dict[str, Any]) -> None:
    class Stop(Exception):  # noqa: N818 - stands for a crash
        pass

    def stop_halfway(stage: str, done: int, total: int) -> None:
        if stage == "sample policy" and done == 5:
            raise Stop

    config["concurrency"] = 1
    with pytest.raises(Stop):
        evaluate(config, on_progress=stop_halfway)
    assert not (Path(config["out"]) / "scorecard.json").exists()
    paid = calls(config["out"])["evaluate"]
    assert 20 < paid < 40
    whole = evaluate(config)
    assert calls(config["out"])["evaluate"] == 40
    assert whole == evaluate({**config, "out": config["out"] + "-other"})


def test_replies_of_another_evaluation_are_reused(config: dict[str, Any]) -> None:
    evaluate(config)
    other = {**config, "out": config["out"] + "-2", "reuse": [config["out"]], "sampling": {"n": 3}}
    evaluate(other)
    assert calls(other["out"])["evaluate"] == 20


def test_another_evaluation_in_the_same_folder_is_refused(config: dict[str, Any]) -> None:
    first = evaluate(config)
    with pytest.raises(RunMismatch, match="holds another evaluation"):
        evaluate(config, overrides={"seed": 5})
    assert read_scorecard(Path(config["out"]) / "scorecard.json") == first
    assert evaluate(config, overrides={"seed": 5}, again=True) != first


def test_a_damaged_scorecard_is_not_taken_for_one(config: dict[str, Any]) -> None:
    Path(config["out"]).mkdir()
    (Path(config["out"]) / "scorecard.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunMismatch, match="not a scorecard"):
        evaluate(config)


def test_a_file_of_the_user_is_not_overwritten(config: dict[str, Any]) -> None:
    out = Path(config["out"])
    out.mkdir()
    (out / "report.md").write_text("mine", encoding="utf-8")
    for again in (False, True):
        with pytest.raises(InputError, match=r"contains report\.md but no ledger"):
            evaluate(config, again=again)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"report.md": "mine"}


def test_only_one_process_writes(config: dict[str, Any]) -> None:
    out = Path(config["out"])
    out.mkdir()
    lock = RunLock(out)
    try:
        with pytest.raises(RunLocked):
            evaluate(config)
    finally:
        lock.release()


async def test_it_works_where_an_event_loop_is_running(config: dict[str, Any]) -> None:
    assert asyncio.get_running_loop().is_running()
    assert evaluate(config, overrides={"prompts.limit": 3}).slices["all"] == 3


def test_judges_are_asked_about_judged_principles(config: dict[str, Any]) -> None:
    config |= {
        "constitution": "minimal",
        "judges": [{"name": "main", "engine": "scripted", "model": "judge-longer"}],
    }
    card = evaluate(config)
    assert card.estimate("policy", "wins/judges").n == 10
    assert card.estimate("policy", "wins/judges/equal-length").estimate is not None
    lines = (Path(config["out"]) / "judgments.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert first["verdicts"][0]["choice"] in ("a", "b", "tie", "abstain")
    assert first["baseline"] == "base"


def test_a_judge_that_is_one_of_the_models_is_mentioned(config: dict[str, Any]) -> None:
    config |= {
        "constitution": "minimal",
        "judges": [{"name": "main", "engine": "scripted", "model": "echo"}],
    }
    notices = evaluate(config).notices
    assert "the judge 'main' is the model 'base' itself: it judges its own responses" in notices


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "other"}, "baseline 'other' is not one of the models: base, policy"),
        (
            {"likelihood_under": "other"},
            "likelihood_under 'other' is not one of the models: base, policy",
        ),
        ({"models": []}, "models"),
        (
            {"judges": [{"model": "same-as-student"}]},
            "an evaluation has no student",
        ),
        (
            {"judges": [{"engine": "scripted", "model": "echo"}]},
            "only rule principles",
        ),
        ({"judging": {"orders": "one"}}, "judging has no effect: judges is empty"),
        (
            {
                "judges": [{"engine": "scripted", "model": "echo", "method": "contrast"}],
                "judging": {"min_mass": 0.5},
            },
            "min_mass has no effect",
        ),
        ({"sample": {"n": 1}}, "unknown key 'sample'; did you mean 'sampling'?"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_and_nothing_is_written(
    config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        evaluate({**config, **change})
    assert not Path(config["out"]).exists()


def test_two_models_of_one_name_are_refused(config: dict[str, Any]) -> None:
    config["models"][1]["name"] = "base"
    with pytest.raises(ConfigError, match="two models are named 'base'"):
        evaluate(config)


def test_every_engine_is_closed_also_when_another_cannot_be_opened(config: dict[str, Any]) -> None:
    evaluate(config)
    assert Closing.closed == 1
    config["models"].append({"name": "third", "engine": "scripted", "model": "nothing"})
    with pytest.raises(EngineMissing, match="nothing"):
        evaluate(config, again=True)
    assert Closing.closed == 2


def test_the_word_baseline_means_whichever_model_that_is(config: dict[str, Any]) -> None:
    settings = load_config(EvaluateConfig, config, {"baseline": "policy"})
    assert settings.likelihood_model == "policy"
    settings = load_config(EvaluateConfig, config, {"likelihood_under": None})
    assert settings.likelihood_model is None
