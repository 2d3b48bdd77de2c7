"""Whether a principle has a bearing on a prompt: asked before the draw, or by a third label."""

import math
from collections.abc import Sequence

import pytest

from rlaif.engines import Capability, Label, Reply, Request
from rlaif.errors import CallFailed, EngineMissing
from rlaif.judging import FlowJudge, Pairwise, build_judge
from rlaif.judging.reading import read_or_neither, read_word
from rlaif.judging.relevance import Relevance
from rlaif.records import Choice, Drop
from rlaif.templates import TemplateSet
from tests.judging.fake import BRIEF, COMPARISON, KIND, PROMPT, FakeEngine, always


def logs(*shares: float | None) -> Reply:
    return Reply(label_logprobs=tuple(None if one is None else math.log(one) for one in shares))


def relevance(engine: FakeEngine, min_mass: float = 0.05) -> Relevance:
    return Relevance.build(
        name="main", engine=engine, templates=TemplateSet.open(), min_mass=min_mass
    )


async def test_a_principle_whose_question_does_not_apply_is_left_out_and_counted() -> None:
    def answer(request: Request) -> Reply:
        return logs(0.2, 0.6) if "Be kind." in request.messages[-1]["content"] else logs(0.5, 0.4)

    engine = FakeEngine(answer)
    found = await relevance(engine).choose(PROMPT, [BRIEF, KIND])
    assert found.principles == (BRIEF,)
    assert found.dropped == (Drop("principle", "not-relevant", ("kind",)),)
    assert [(one.purpose, isinstance(one, Label)) for one in engine.asked] == [
        ("relevance", True)
    ] * 2
    shown = engine.asked[0].messages[-1]["content"]
    assert BRIEF.comparison in shown
    assert PROMPT.text in shown


@pytest.mark.parametrize(
    "reply",
    [logs(0.5, 0.5), logs(1e-6, 9e-6), logs(None, None), logs(None, 0.3), Reply(finish="refusal")],
)
async def test_a_reply_that_does_not_say_no_leaves_the_principle_in(reply: Reply) -> None:
    found = await relevance(FakeEngine(always(reply))).choose(PROMPT, [BRIEF])
    assert (found.principles, found.dropped, found.failures) == ((BRIEF,), (), ())


async def test_a_failed_call_leaves_it_in_and_is_a_failure_of_the_judge() -> None:
    def fails(_: Request) -> Reply:
        raise CallFailed("no", kind="http-500", attempts=3)

    found = await relevance(FakeEngine(fails)).choose(PROMPT, [BRIEF])
    assert found.principles == (BRIEF,)
    (failure,) = found.failures
    assert (failure.stage, failure.record_id, failure.kind) == ("judge", "egg", "http-500")
    assert (failure.message, failure.attempts) == ("main/brief/relevance: no", 3)


def test_a_model_without_label_probabilities_cannot_be_asked() -> None:
    engine = FakeEngine(always(Reply()), capabilities=frozenset({Capability.GENERATE}))
    with pytest.raises(EngineMissing, match="relevance: model"):
        relevance(engine)


@pytest.mark.parametrize(
    ("shares", "choice", "reason", "logit"),
    [
        ((0.3, 0.1, 0.5), Choice.ABSTAIN, "not-relevant", None),  # N above A and B together
        ((0.3, 0.1, 0.39), Choice.A, "", math.log(3.0)),
        ((0.1, 0.3, None), Choice.B, "", -math.log(3.0)),  # N was not among the likely ones
        ((None, None, 0.9), Choice.ABSTAIN, "not-relevant", None),
        ((0.01, 0.01, 0.02), Choice.ABSTAIN, "low-mass", None),
        ((None, None, None), Choice.ABSTAIN, "unreadable", None),
    ],
)
def test_a_third_label_that_is_likelier_than_both_abstains(
    shares: Sequence[float | None], choice: Choice, reason: str, logit: float | None
) -> None:
    read = read_or_neither(logs(*shares), min_mass=0.05)
    assert (read.choice, read.reason) == (choice, reason)
    assert read.logit == (None if logit is None else pytest.approx(logit))


def judge(engine: FakeEngine, **settings: object) -> FlowJudge:
    return build_judge(
        name="main",
        method="pairwise",
        engine=engine,
        templates=TemplateSet.open(),
        settings=Pairwise(neither=True, **settings),
    )


async def test_a_pairwise_judge_may_reply_n_in_labels_and_in_words() -> None:
    engine = FakeEngine(always(logs(0.1, 0.1, 0.7)))
    verdicts = await judge(engine).judge(PROMPT, COMPARISON, [BRIEF])
    assert [one.reason for one in verdicts] == ["not-relevant"] * 2
    assert {one.labels for one in engine.asked if isinstance(one, Label)} == {("A", "B", "N")}
    assert "N if neither response" in engine.asked[0].messages[-1]["content"]
    words = judge(FakeEngine(always(Reply("**N**"))), words=True)
    verdicts = await words.judge(PROMPT, COMPARISON, [BRIEF])
    assert [(one.choice, one.reason) for one in verdicts] == [(Choice.ABSTAIN, "not-relevant")] * 2


def test_n_is_a_verdict_only_where_it_is_on_the_menu() -> None:
    assert read_word("N", ("A", "B", "N")).reason == "not-relevant"
    assert read_word("N").reason == "unreadable"
    assert read_word("B", ("A", "B", "N")).choice is Choice.B
