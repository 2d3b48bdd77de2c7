"""Judged wins between all models, when the file asks for them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlaif.checking import check
from rlaif.config.run import EngineConfig, JudgeConfig
from rlaif.engines import Engine
from rlaif.evaluation import evaluate
from rlaif.sessions import session
from rlaif.sessions.engines import open_configured
from tests.evaluation.factories import Talker


def open_or_talk(config: EngineConfig | JudgeConfig) -> Engine:
    words = {"short": 2, "middle": 5, "long": 9}.get(config.model)
    if words is None:
        return open_configured(config)
    return Talker(config.model, lambda text, _: " ".join([text.split()[-1]] * words))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(session, "open_configured", open_or_talk)
    lines = [json.dumps({"id": f"p{i}", "text": f"Tell me about {i}"}) for i in range(12)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {
        "name": "test",
        "prompts": {"path": str(tmp_path / "prompts.jsonl"), "column": "text", "id_column": "id"},
        "constitution": "minimal",
        "models": [
            {"name": name, "engine": "scripted", "model": name}
            for name in ("middle", "short", "long")
        ],
        "baseline": "middle",
        "judges": [{"name": "main", "engine": "scripted", "model": "judge-longer"}],
        "judging": {"compare": "all"},
        "out": str(tmp_path / "out"),
    }


def judged_pairs(out: str) -> Counter[tuple[str, str]]:
    rows = (Path(out) / "judgments.jsonl").read_text(encoding="utf-8").splitlines()
    return Counter((row["model"], row["baseline"]) for row in map(json.loads, rows))


def test_every_pair_is_judged_and_tested(config: dict[str, Any]) -> None:
    card = evaluate(config)
    pairs = {("short", "middle"), ("long", "middle"), ("long", "short")}
    assert judged_pairs(config["out"]) == dict.fromkeys(pairs, 2 * 12)
    wins = {(d.model, d.other): d for d in card.differences if d.measure == "wins/judges"}
    assert wins.keys() == pairs
    assert wins["long", "short"].difference > 0.4  # the longer one wins
    assert wins["short", "middle"].difference < 0
    assert wins["long", "short"].adjusted < 0.05


def test_by_default_judges_compare_with_the_baseline_only(config: dict[str, Any]) -> None:
    every = evaluate(config)
    plain = {key: value for key, value in config.items() if key != "judging"}
    card = evaluate({**plain, "out": config["out"] + "-2"})
    assert set(judged_pairs(config["out"] + "-2")) == {("short", "middle"), ("long", "middle")}
    assert card.fingerprint != every.fingerprint
    assert card.estimates == every.estimates


def test_the_estimate_counts_every_pair(config: dict[str, Any]) -> None:
    def judged(compare: str) -> int:
        (estimate,) = check(config, overrides={"judging.compare": compare}).estimates.values()
        return sum(one.calls for one in estimate.stages if one.purpose == "judge")

    assert judged("all") * 2 == judged("baseline") * 3
