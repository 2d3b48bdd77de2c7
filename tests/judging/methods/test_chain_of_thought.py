import math
from collections.abc import Callable

import pytest

from rlaif.engines import Capability, Generate, Label, Reply, Request, request_key
from rlaif.errors import CallFailed, EngineMissing
from rlaif.judging import Clamp, Judge, Pairwise, build_judge, judge_comparison
from rlaif.records import Choice
from rlaif.templates import TemplateSet
from tests.judging.fake import (
    BRIEF,
    COMPARISON,
    PROMPT,
    FakeEngine,
    first_is_shown_as_a,
)

SURE_OF_A = Reply(text="A", label_logprobs=(math.log(0.98), math.log(0.02)))


def reasons(request: Request) -> Reply:
    if isinstance(request, Generate):
        return Reply(text="The first is shorter.")
    return SURE_OF_A


def judge(engine: FakeEngine, **settings: object) -> Judge:
    return build_judge(
        name="main",
        method="pairwise",
        engine=engine,
        templates=TemplateSet.open(),
        settings=Pairwise(chain_of_thought=True, **settings),
    )


async def test_the_label_is_read_after_the_reasoning_was_written() -> None:
    engine = FakeEngine(reasons)
    ab, ba = await judge(engine, max_tokens=99).judge(PROMPT, COMPARISON, [BRIEF])
    assert ab.choice is ba.choice is Choice.A
    assert ab.logit == pytest.approx(math.log(49.0))
    assert ab.raw == "The first is shorter.\n\nA"
    thought = [request for request in engine.asked if isinstance(request, Generate)]
    asked = [request for request in engine.asked if isinstance(request, Label)]
    assert (len(thought), len(asked)) == (2, 2)
    for before, after in zip(thought, asked, strict=True):
        assert (before.sampling.temperature, before.sampling.max_tokens) == (0.0, 99)
        assert [m["role"] for m in before.messages] == ["system", "user"]
        assert after.messages[:2] == before.messages
        assert "The first is shorter." in after.messages[2]["content"]
        assert after.messages[3]["role"] == "user"
    assert ab.calls == (
        request_key(engine.identity, thought[0], thought[0].seeds[0]),
        request_key(engine.identity, asked[0]),
    )


async def test_labels_are_clamped_on_record_and_the_raw_preference_is_kept() -> None:
    def fair(request: Request) -> Reply:
        if isinstance(request, Generate):
            return Reply(text="Hm.")
        return SURE_OF_A if first_is_shown_as_a(request) else Reply(label_logprobs=(-4.0, -0.1))

    # content = (ln 49 + 3.9)/2 = 3.896: σ = 0.9801, clamped to 0.6
    reasoned = await judge_comparison(
        PROMPT,
        COMPARISON,
        judges=[(judge(FakeEngine(fair)), 1.0)],
        drawn=[BRIEF],
        candidates=[BRIEF],
    )
    assert reasoned.preference == pytest.approx(0.6)
    assert reasoned.raw_preference == pytest.approx(0.98007, abs=1e-4)
    assert reasoned.transforms == ("main: clamp(0.4..0.6)",)


def test_only_labels_of_chain_of_thought_are_clamped() -> None:
    engine = FakeEngine(reasons)
    assert judge(engine).transforms("brief") == (Clamp(0.4),)
    assert judge(engine, clamp=0.2).transforms("brief") == (Clamp(0.2),)
    assert judge(engine, clamp=0.0).transforms("brief") == ()
    plain = build_judge(name="main", method="pairwise", engine=engine, templates=TemplateSet.open())
    assert plain.transforms("brief") == ()


@pytest.mark.parametrize(
    ("thought", "reason", "raw"),
    [
        (Reply(text="  \n"), "unreadable", "  \n"),
        (Reply(finish="refusal"), "refused", ""),
        (Reply(text="I'm sorry, I can't."), "refused", "I'm sorry, I can't."),
        (CallFailed("too long", kind="context-length"), "failed", "context-length: too long"),
    ],
)
async def test_without_reasoning_no_letter_is_asked_for(
    thought: Reply | CallFailed, reason: str, raw: str
) -> None:
    def answer(request: Request) -> Reply:
        assert isinstance(request, Generate)
        if isinstance(thought, CallFailed):
            raise thought
        return thought

    verdicts = await judge(FakeEngine(answer)).judge(PROMPT, COMPARISON, [BRIEF])
    for verdict in verdicts:
        assert (verdict.choice, verdict.reason, verdict.raw) == (Choice.ABSTAIN, reason, raw)
        assert len(verdict.calls) == (0 if reason == "failed" else 1)


def test_it_costs_a_generation_and_a_label_per_order_and_needs_both() -> None:
    cost = judge(FakeEngine(reasons)).cost
    assert (cost.texts, cost.labels) == (2, 2)
    assert cost.calls(comparisons=6, responses=4, principles=2) == 48
    silent = FakeEngine(reasons, frozenset({Capability.LABEL_LOGPROBS}))
    with pytest.raises(EngineMissing, match="needs generate"):
        judge(silent)


def words(text: str) -> Callable[[Request], Reply]:
    def answer(request: Request) -> Reply:
        assert isinstance(request, Generate)
        return Reply(text=text)

    return answer


def in_words(engine: FakeEngine, **settings: object) -> Judge:
    return build_judge(
        name="main",
        method="pairwise",
        engine=engine,
        templates=TemplateSet.open(),
        settings=Pairwise(words=True, **settings),
    )


async def test_words_are_read_without_log_probabilities() -> None:
    engine = FakeEngine(words("**A**"), frozenset({Capability.GENERATE}))
    ab, ba = await in_words(engine).judge(PROMPT, COMPARISON, [BRIEF])
    assert (ab.choice, ab.logit, ab.raw, ab.reason) == (Choice.A, None, "**A**", "")
    assert ba.content_choice() is Choice.B
    assert {r.choices for r in engine.asked if isinstance(r, Generate)} == {()}
    assert in_words(engine).cost.calls(comparisons=1, responses=2, principles=1) == 2


async def test_a_server_that_can_is_held_to_the_menu() -> None:
    able = frozenset({Capability.GENERATE, Capability.STRUCTURED})
    engine = FakeEngine(words("B"), able)
    await in_words(engine).judge(PROMPT, COMPARISON, [BRIEF])
    assert {r.choices for r in engine.asked if isinstance(r, Generate)} == {("A", "B")}


@pytest.mark.parametrize(
    ("text", "reason"), [("Both are fine.", "unreadable"), ("I can't judge that.", "refused")]
)
async def test_words_off_the_menu_abstain_and_are_kept(text: str, reason: str) -> None:
    verdicts = await in_words(FakeEngine(words(text))).judge(PROMPT, COMPARISON, [BRIEF])
    for verdict in verdicts:
        assert (verdict.choice, verdict.reason, verdict.raw) == (Choice.ABSTAIN, reason, text)


async def test_words_after_reasoning_take_two_generations() -> None:
    def answer(request: Request) -> Reply:
        return Reply(text="A" if len(request.messages) == 4 else "Because.")

    engine = FakeEngine(answer, frozenset({Capability.GENERATE}))
    reasoned = in_words(engine, chain_of_thought=True)
    assert reasoned.cost.texts == 4
    judgment = await judge_comparison(
        PROMPT, COMPARISON, judges=[(reasoned, 1.0)], drawn=[BRIEF], candidates=[BRIEF]
    )
    assert judgment.preference == 0.5  # A in both orders
    assert len(engine.asked) == 4
