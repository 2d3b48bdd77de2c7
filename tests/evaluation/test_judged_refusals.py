"""Refusals by a judge: what three label probabilities say, and what the file asks and records."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlaif.checking import check
from rlaif.config.run import EngineConfig, JudgeConfig
from rlaif.engines import Capability, Engine, Generate, Label, Reply, Request
from rlaif.engines.scripted import ScriptedEngine
from rlaif.errors import CallFailed, ConfigError, EngineMissing, TooManyFailed
from rlaif.evaluation import Refusal, evaluate
from rlaif.evaluation.judged_refusals import RefusalJudge, decide_refusal, judge_refusals
from rlaif.evaluation.measure import Group
from rlaif.judging.reading import read_shares
from rlaif.records import Prompt, Response
from rlaif.runs import Ledger
from rlaif.sessions import session
from rlaif.sessions.engines import open_configured
from rlaif.templates import TemplateSet
from tests.evaluation.factories import group

REFUSES, HEDGES, HELPS = "I can't help with that.", "Only the safe half: boil it.", "Boil it."


def logs(*shares: float | None) -> Reply:
    return Reply(label_logprobs=tuple(None if one is None else math.log(one) for one in shares))


def read_three(*shares: float | None, min_mass: float = 0.05) -> tuple[Refusal | None, str]:
    return decide_refusal(read_shares(logs(*shares), labels=3, min_mass=min_mass))[:2]


@pytest.mark.parametrize(
    ("shares", "refusal", "reason"),
    [
        ((0.6, 0.2, 0.2), Refusal.FULL, ""),
        ((0.4, 0.3, 0.3), Refusal.PARTIAL, ""),  # likeliest A, yet not more than B and C together
        ((0.3, 0.3, 0.4), Refusal.PARTIAL, ""),  # likeliest C, yet A and B together are more
        ((0.1, 0.1, 0.8), Refusal.NONE, ""),
        ((0.06, 0.02, 0.01), Refusal.FULL, ""),  # of a mass of .09
        ((0.02, 0.01, 0.01), None, "low-mass"),
        ((0.9, None, None), Refusal.FULL, ""),  # the others have at most .1
        ((None, None, 0.4), None, "unreadable"),  # the others may have .6
        ((0.45, None, 0.3), None, "unreadable"),  # B may have .25
        ((None, None, None), None, "unreadable"),
    ],
)
def test_three_labels_say_full_partial_or_none(
    shares: Sequence[float | None], refusal: Refusal | None, reason: str
) -> None:
    assert read_three(*shares) == (refusal, reason)


def answer(request: Request, _: int | None = None) -> Reply | CallFailed:
    """Knows the three texts; anything else it leaves to chance, and one text breaks it."""
    text = request.messages[-1]["content"]
    if "break" in text:
        return CallFailed("no", kind="http-500")
    if REFUSES in text:
        return logs(0.8, 0.1, 0.1)
    if HEDGES in text:
        return logs(0.1, 0.8, 0.1)
    return logs(0.01, 0.01, 0.01) if "mumble" in text else logs(0.1, 0.1, 0.8)


def build(**changes: Any) -> RefusalJudge:
    given = {"engine": ScriptedEngine(answer), "min_mass": 0.05, **changes}
    return RefusalJudge.build(name="main", templates=TemplateSet.open(), **given)


async def test_shares_leave_out_what_was_not_read_and_count_it() -> None:
    groups = [
        group("one", REFUSES, HEDGES, HELPS),
        group("two", "mumble", "break", "", None),
        Group(
            Prompt.build("Three?", id="three"),
            (Response.build("three", "filtered", index=0, finish="refusal"),),
            1,
        ),
    ]
    judge = build()
    found = await judge_refusals(groups, judge)
    at_all, wholly = found.measured
    assert at_all.values == {
        "one": (1.0, 1.0, 0.0),
        "two": (None, None, None, None),
        "three": (1.0,),  # the server's filter refused it: known without asking
    }
    assert wholly.values["one"] == (1.0, 0.0, 0.0)
    assert (found.asked, found.read) == (5, 3)
    assert found.explain("policy") == [
        "policy: the judge 'main' abstained on refusals in 2 of 5 responses (failed 1, low-mass 1)"
    ]
    (failure,) = found.failures
    assert (failure.stage, failure.record_id, failure.message) == (
        "judge",
        "two",
        "main/refusals: no",
    )


def test_a_model_without_label_probabilities_cannot_be_asked() -> None:
    engine = ScriptedEngine(answer, capabilities=frozenset({Capability.GENERATE}))
    with pytest.raises(EngineMissing, match="refusals: judge 'main'"):
        build(engine=engine)


def test_what_it_is_shown_is_in_its_identity() -> None:
    assert build().identity != build(min_mass=0.1).identity
    assert set(build().identity) == {"engine", "template", "min_mass"}


def talk(request: Request, seed: int | None) -> Reply | CallFailed:
    if isinstance(request, Label):
        return answer(request)
    assert isinstance(request, Generate)
    number = int(request.messages[-1]["content"].split()[-1])
    return Reply(REFUSES if number < 3 else HEDGES if number < 5 else HELPS)


def break_off(request: Request, _: int | None) -> Reply | CallFailed:
    refuses = REFUSES in request.messages[-1]["content"]
    return logs(0.9, 0.05, 0.05) if refuses else CallFailed("no", kind="http-500")


def open_or_talk(config: EngineConfig | JudgeConfig) -> Engine:
    if config.model == "talk":
        return ScriptedEngine(talk, name="talk")
    if config.model == "breaks":
        return ScriptedEngine(break_off, name="breaks")
    if config.model == "mumbles":
        return ScriptedEngine(lambda *_: logs(0.01, 0.01, 0.01), name="mumbles")
    return open_configured(config)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(session, "open_configured", open_or_talk)
    lines = [json.dumps({"id": f"p{i}", "text": f"Tell me about {i}"}) for i in range(10)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return {
        "name": "test",
        "prompts": {"path": str(tmp_path / "prompts.jsonl"), "column": "text", "id_column": "id"},
        "constitution": "concise",  # rules only: the judge compares nothing
        "models": [{"name": "base", "engine": "scripted", "model": "talk"}],
        "baseline": "base",
        "sampling": {"n": 2},
        "judges": [{"name": "main", "engine": "scripted", "model": "talk"}],
        "refusals": {"judge": "main"},
        "out": str(tmp_path / "out"),
    }


def paid(out: str) -> Mapping[str, int]:
    with Ledger.open(Path(out) / "ledger.sqlite", read_only=True) as ledger:
        return {total.purpose: total.calls for total in ledger.totals()}


def test_the_judges_shares_stand_beside_the_phrases_and_are_asked_once(
    config: dict[str, Any],
) -> None:
    card = evaluate(config)
    at_all, wholly = (
        card.estimate("base", "refusals/judged"),
        card.estimate("base", "refusals/full/judged"),
    )
    assert (at_all.estimate, wholly.estimate) == (0.5, 0.3)
    assert at_all.low is not None
    assert at_all.low < 0.5
    assert card.estimate("base", "refusals").estimate == 0.3  # the phrases miss the partial ones
    assert [one.name for one in card.measures].count("refusals/judged") == 1
    # The two samples of a prompt are the same text here: one question, one call.
    assert paid(config["out"])["refusals"] == 10
    assert evaluate(config, again=True) == card
    assert paid(config["out"])["refusals"] == 10
    rows = (Path(config["out"]) / "responses.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["values"]["refusals/full/judged"] == 1.0


def test_the_estimate_counts_its_calls(config: dict[str, Any]) -> None:
    (estimate,) = check(config).estimates.values()
    stages = {one.purpose: one.calls for one in estimate.stages}
    assert stages["evaluate"] == 20
    assert 10 <= stages["refusals"] <= 20  # equal responses to a prompt are one call


def test_without_it_an_evaluation_is_the_one_it_was(config: dict[str, Any]) -> None:
    plain = {key: value for key, value in config.items() if key not in ("judges", "refusals")}
    first = evaluate({**plain, "out": config["out"] + "-plain"})
    assert evaluate(config).fingerprint != first.fingerprint
    assert not any(one.name == "refusals/judged" for one in first.measures)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"refusals": {"judge": "other"}}, "refusals.judge 'other' is not one of the judges: main"),
        ({"judges": []}, "is not one of the judges: there are none"),
        (
            {"judges": [{"name": n, "engine": "scripted", "model": "talk"} for n in ("main", "b")]},
            "only rule principles",
        ),
    ],
)
def test_a_wrong_file_is_refused(
    config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate({**config, **change})


def test_a_judge_that_fails_ends_the_command(config: dict[str, Any]) -> None:
    config["judges"][0]["model"] = "breaks"
    with pytest.raises(TooManyFailed, match="70% of what was asked of judge:main failed"):
        evaluate({**config, "give_up_after": 0})


def test_a_judge_that_cannot_be_read_is_no_success(config: dict[str, Any]) -> None:
    config["judges"][0]["model"] = "mumbles"
    card = evaluate(config)
    assert card.nothing.startswith("the judge of refusals gave no verdict that could be read")
    assert card.estimate("base", "refusals/judged").estimate is None
