"""Runs in which principles must have a bearing on the prompt, with a planted judge."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import rlaif
from rlaif.engines import Generate, Label, Reply, Request, open as opening
from rlaif.engines.scripted import ScriptedEngine
from rlaif.errors import ConfigError

TOPICS = ("apples", "boats", "clouds", "drums")
PROMPTS = [f"Tell me about {TOPICS[n % 4]} and {TOPICS[(n + 1) % 4]}, part {n}." for n in range(8)]


def planted(request: Request, seed: int | None) -> Reply | str:
    """Knows that a principle has a bearing on a prompt that names its topic, and on no other."""
    if isinstance(request, Generate):
        return f"Reply {seed} about something."
    shown = request.messages[-1]["content"]
    prompt = next(one for one in PROMPTS if one in shown)
    topic = next(one for one in TOPICS if f"about {one} only" in shown)
    assert isinstance(request, Label)
    applies = topic in prompt
    if request.labels == ("Yes", "No"):
        shares: tuple[float, ...] = (0.9, 0.1) if applies else (0.1, 0.9)
    elif applies:
        shares = (0.7, 0.2, 0.05)
    else:
        shares = (0.1, 0.1, 0.75) if "N" in request.labels else (0.4, 0.4)
    return Reply(label_logprobs=tuple(math.log(one) for one in shares[: len(request.labels)]))


@pytest.fixture(autouse=True)
def engines() -> Iterator[list[ScriptedEngine]]:
    opened: list[ScriptedEngine] = []
    _, used = opening._BUILDERS["scripted"]

    def build(*, model: str, **_: Any) -> ScriptedEngine:
        opened.append(ScriptedEngine(planted, name=model))
        return opened[-1]

    with patch.dict(opening._BUILDERS, {"scripted": (build, used)}):
        yield opened


def settings(folder: Path, **judging: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"id": f"p{n}", "prompt": one}) for n, one in enumerate(PROMPTS)]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    principles = [
        {"id": one, "statement": "x", "comparison": f"Which is about {one} only?"} for one in TOPICS
    ]
    constitution = {"name": "topics", "version": "1", "principles": principles}
    (folder / "c.yaml").write_text(json.dumps(constitution))
    return {
        "name": "run",
        "prompts": {"path": str(folder / "prompts.jsonl"), "id_column": "id"},
        "constitution": str(folder / "c.yaml"),
        "student": {"engine": "scripted", "model": "student", "sampling": {"n": 3}},
        "judges": [{"name": "main", "engine": "scripted", "model": "judge"}],
        "judging": judging,
        "out": str(folder / "run"),
    }


def asked_in_vain(run: Any) -> float:
    """The share of verdicts about a principle whose topic the prompt does not name."""
    said = [
        verdict.principle in view.prompt.text
        for view in run.judgments()
        for verdict in view.judgment.verdicts
    ]
    return 1.0 - sum(said) / len(said)


def test_principles_are_drawn_among_those_that_apply(
    tmp_path: Path, engines: list[ScriptedEngine]
) -> None:
    off = rlaif.generate(settings(tmp_path / "off"))
    assert 0.3 < asked_in_vain(off) < 0.7  # two of four topics
    given = settings(tmp_path / "model", relevance="model")
    estimated = rlaif.estimate(given)
    run = rlaif.generate(given)
    assert asked_in_vain(run) == 0.0
    assert all(view.judgment.preference is not None for view in run.judgments())
    status = run.status()
    assert status.drops["principle", "not-relevant"] == 8 * 2
    (calls,) = (one.calls for one in status.calls if one.purpose == "relevance")
    assert calls == 8 * 4  # once a prompt and principle, whatever the comparisons
    assert [one.calls for one in estimated.stages if one.purpose == "relevance"] == [calls]
    before = sum(one.asked.total() for one in engines)
    again = rlaif.generate({**given, "out": str(tmp_path / "again"), "reuse": [str(run.path)]})
    assert sum(one.asked.total() for one in engines) == before
    assert [row.judgments for row in again.rows()] == [row.judgments for row in run.rows()]


def test_explain_says_how_often_each_principle_applied(tmp_path: Path) -> None:
    run = rlaif.generate(settings(tmp_path, relevance="model"))
    explained = rlaif.explain_run(run)
    counts = {name: (one.relevant, one.irrelevant) for name, one in explained.principles.items()}
    assert counts == dict.fromkeys(TOPICS, (4, 4))


def test_with_a_third_label_such_verdicts_abstain(tmp_path: Path) -> None:
    run = rlaif.generate(settings(tmp_path, relevance="label", principles={"choose": "all"}))
    for view in run.judgments():
        for verdict in view.judgment.verdicts:
            applies = verdict.principle in view.prompt.text
            assert verdict.reason == ("" if applies else "not-relevant")
    explained = rlaif.explain_run(run)
    counts = {name: (one.relevant, one.irrelevant) for name, one in explained.principles.items()}
    assert counts == dict.fromkeys(TOPICS, (4 * 3 * 2, 4 * 3 * 2))


def test_off_is_the_plan_of_a_file_without_it(tmp_path: Path) -> None:
    run = rlaif.generate(settings(tmp_path))
    assert "relevance" not in run.manifest.plan["judging"]
    assert "neither" not in run.manifest.plan["judges"]["main"]["pairwise"]
    assert rlaif.generate(settings(tmp_path, relevance="off")).path == run.path


@pytest.mark.parametrize(
    ("judge", "judging", "message"),
    [
        ({"method": "rubric"}, {"relevance": "label"}, "relevance: label is for pairwise judges"),
        (
            {"pairwise": {"chain_of_thought": True}},
            {"relevance": "label"},
            "relevance: label is for pairwise judges",
        ),
        ({}, {"relevance": "model", "comparisons": "contrast"}, "relevance: model has no effect"),
    ],
)
def test_a_setting_that_could_have_no_effect_is_an_error(
    judge: dict[str, Any], judging: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = settings(tmp_path, **judging)
    given["judges"][0] |= judge
    with pytest.raises(ConfigError, match=message):
        rlaif.generate(given)


@pytest.mark.parametrize(("relevance", "each"), [("model", 4), ("label", 4 * 2)])
def test_an_audit_says_for_every_judge_how_often_each_principle_applied(
    relevance: str, each: int, tmp_path: Path
) -> None:
    given = settings(tmp_path)
    gold = tmp_path / "gold.jsonl"
    pairs = [
        {"id": f"g{n}", "prompt": one, "response_a": "Yes.", "response_b": "No.", "label": "a"}
        for n, one in enumerate(PROMPTS)
    ]
    gold.write_text("\n".join(map(json.dumps, pairs)))
    audit = {key: given[key] for key in ("judges", "constitution")}
    out = tmp_path / "audit"
    result = rlaif.audit({**audit, "relevance": relevance, "repeats": 1}, [gold], out=out)
    counts = {"relevant": each, "irrelevant": each}
    assert result.judges["main"].applied == dict.fromkeys(TOPICS, counts)
    assert f"| apples | {each} | {each} |" in (out / "table.md").read_text()
    silence = result.judges["main"].sets["gold"].silence
    assert silence.reasons == ({} if relevance == "model" else {"not-relevant": 8 * 2 * 2})
