"""K sampled verdicts are one soft label: for words, after reasoning, and after thinking."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rlaif.engines import Capability, Generate, Label, Reply, Request
from rlaif.engines.scripted import ScriptedEngine
from rlaif.errors import CallFailed
from rlaif.judging import FlowJudge, Pairwise, build_judge, judge_comparison, sigmoid
from rlaif.judging.methods.votes import pool_votes
from rlaif.judging.reading import LabelReading
from rlaif.records import Choice, Order, Verdict
from rlaif.templates import TemplateSet
from tests.judging.fake import BRIEF, COMPARISON, PROMPT, first_is_shown_as_a

A, B = LabelReading(Choice.A), LabelReading(Choice.B)
LOST = LabelReading(Choice.ABSTAIN, reason="unreadable")


def logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


def sure_of_a(p: float) -> LabelReading:
    return LabelReading(Choice.A if p > 0.5 else Choice.B, logit(p), 0.9)


@pytest.mark.parametrize(
    ("votes", "p"),
    [
        ([A] * 6 + [B] * 2, 6.5 / 9),
        ([A] * 8, 8.5 / 9),  # and not 1
        ([B] * 8, 0.5 / 9),
        ([A] * 4 + [B] * 4, 0.5),
        ([A] * 3 + [B] * 2 + [LOST] * 3, 3.5 / 6),  # those that are lost have no vote
        ([sure_of_a(0.9), sure_of_a(0.6), sure_of_a(0.2)], (1.7 + 0.5) / 4),
    ],
)
def test_the_label_is_the_share_of_a_with_half_a_vote_for_each_side(
    votes: list[LabelReading], p: float
) -> None:
    pooled = pool_votes(votes)
    assert pooled.logit == pytest.approx(logit(p), abs=1e-12)


def test_a_single_vote_says_what_it_says() -> None:
    assert pool_votes([A]) == A
    assert pool_votes([sure_of_a(0.9)]) == sure_of_a(0.9)


def test_more_lost_than_cast_is_an_abstention_with_the_most_frequent_reason() -> None:
    refused = LabelReading(Choice.ABSTAIN, reason="refused")
    pooled = pool_votes([A, refused, LOST, LOST])
    assert (pooled.choice, pooled.logit, pooled.reason) == (Choice.ABSTAIN, None, "unreadable")


@given(st.lists(st.sampled_from([A, B, LOST]), min_size=2, max_size=12))
def test_turning_every_vote_turns_the_label(votes: list[LabelReading]) -> None:
    turned = [{A: B, B: A}.get(vote, vote) for vote in votes]
    one, other = pool_votes(votes), pool_votes(turned)
    assert one.choice is other.choice.flipped()
    assert (one.logit is None) == (other.logit is None)
    assert one.logit is None or one.logit == pytest.approx(-(other.logit or 0.0))


def ask(answer: Callable[[Request, int | None], Any], settings: Pairwise, **more: Any) -> FlowJudge:
    engine = ScriptedEngine(answer, **more)
    templates = TemplateSet.open()
    return build_judge(
        name="main", method="pairwise", engine=engine, templates=templates, settings=settings
    )


def share_of(seeds: list[int], share: float) -> Callable[[Request, int | None], str]:
    """Say that the first response is better for this share of the seeds, in the order asked."""

    def answer(request: Request, seed: int | None) -> str:
        assert seed is not None
        seeds.append(seed)
        for_first = len(seeds) % 8 < 8 * share
        return "A" if for_first is first_is_shown_as_a(request) else "B"

    return answer


async def test_a_judge_in_words_becomes_soft_and_both_orders_are_averaged() -> None:
    seeds: list[int] = []
    settings = Pairwise(words=True, samples=8, temperature=1.0)
    judge = ask(share_of(seeds, 0.75), settings)
    judgment = await judge_comparison(
        PROMPT, COMPARISON, judges=[(judge, 1.0)], drawn=[BRIEF], candidates=[BRIEF]
    )
    assert len(set(seeds)) == 16  # no two orders or samples share a seed
    assert judgment.preference == pytest.approx(6.5 / 9)
    assert judgment.position_bias == pytest.approx(0.0, abs=1e-12)
    assert [len(verdict.calls) for verdict in judgment.verdicts] == [8, 8]
    assert judge.cost.texts == 16


async def both_orders(judge: FlowJudge) -> tuple[Verdict, Verdict]:
    ab, ba = await judge.judge(PROMPT, COMPARISON, [BRIEF])
    assert (ab.order, ba.order) == (Order.AB, Order.BA)
    return ab, ba


async def test_reasonings_are_votes_that_count_as_much_as_their_labels_say() -> None:
    def answer(request: Request, seed: int | None) -> Reply | str:
        if isinstance(request, Generate):
            return f"thought {seed}"
        share = 0.9 if first_is_shown_as_a(request) else 0.2
        return Reply(label_logprobs=(math.log(share), math.log1p(-share)))

    settings = Pairwise(chain_of_thought=True, samples=4, temperature=0.8)
    judge = ask(answer, settings)
    ab, ba = await both_orders(judge)
    assert ab.logit == pytest.approx(logit((4 * 0.9 + 0.5) / 5))
    assert ba.logit == pytest.approx(logit((4 * 0.2 + 0.5) / 5))
    assert judge.transforms("brief") == ()  # a share of samples is not clamped
    assert (judge.cost.texts, judge.cost.labels) == (8, 8)


async def test_a_refused_sample_is_lost_and_a_failed_one_fails_the_verdict() -> None:
    def answer(request: Request, seed: int | None) -> Any:
        assert isinstance(request, Generate)
        if seed == request.seeds[0]:
            return lost
        return "A"

    settings = Pairwise(words=True, samples=4, temperature=1.0)
    lost: Any = Reply("", finish="refusal")
    ab, _ = await both_orders(ask(answer, settings))
    assert ab.logit == pytest.approx(logit(3.5 / 4))
    lost = CallFailed("no", kind="http-500")
    ab, _ = await both_orders(ask(answer, settings))
    assert (ab.choice, ab.reason) == (Choice.ABSTAIN, "failed")


THOUGHT = "The first is shorter, so A."


def thinks(request: Request, _: int | None) -> Reply:
    """Thinks whatever it is asked; only after its thought is a letter likely."""
    if isinstance(request, Generate):
        cut_off = request.sampling.max_tokens < 100
        finish, text = ("length", "") if cut_off else ("stop", "A")
        return Reply(text, finish, reasoning=THOUGHT)
    assert isinstance(request, Label)
    if f"<think>\n{THOUGHT}\n</think>" not in request.stub:
        return Reply(label_logprobs=(math.log(9e-6), math.log(1e-6)))
    share = 0.8 if first_is_shown_as_a(request) else 0.3
    return Reply(label_logprobs=(math.log(share), math.log1p(-share)))


async def test_a_thinking_judge_that_may_not_think_abstains() -> None:
    ab, ba = await both_orders(ask(thinks, Pairwise()))
    assert (ab.reason, ba.reason) == ("low-mass", "low-mass")


@pytest.mark.parametrize("budget", [50, 2000])
async def test_the_label_is_read_after_the_thought_also_where_the_budget_ends_it(
    budget: int,
) -> None:
    judge = ask(thinks, Pairwise(thinking=budget))
    ab, ba = await both_orders(judge)
    assert (ab.logit, ba.logit) == pytest.approx((logit(0.8), logit(0.3)))
    assert ab.mass == pytest.approx(1.0)
    assert len(ab.calls) == 2
    assert THOUGHT not in ab.raw + ba.raw
    assert (judge.cost.texts, judge.cost.labels) == (2, 2)


async def test_an_engine_that_cannot_start_replies_is_read_in_words_after_the_thought() -> None:
    can = frozenset({Capability.GENERATE, Capability.TOP_LOGPROBS})
    once = ask(thinks, Pairwise(thinking=2000), capabilities=can)
    ab, ba = await both_orders(once)
    assert (ab.choice, ba.choice, ab.logit) == (Choice.A, Choice.A, None)
    assert (once.cost.texts, once.cost.labels) == (2, 0)
    settings = Pairwise(thinking=2000, samples=8, temperature=0.6)
    ab, _ = await both_orders(ask(thinks, settings, capabilities=can))
    assert ask(thinks, settings).cost.labels == 16
    assert ab.logit == pytest.approx(logit(8.5 / 9))
    assert ab.raw == "\n\n".join("A" * 8)


async def test_a_thought_that_is_cut_off_before_any_word_abstains_there() -> None:
    can = frozenset({Capability.GENERATE})
    settings = Pairwise(thinking=50, max_tokens=9)
    ab, _ = await both_orders(ask(thinks, settings, capabilities=can))
    assert (ab.choice, ab.reason) == (Choice.ABSTAIN, "unreadable")


async def test_a_template_that_opens_the_thought_is_not_opened_twice() -> None:
    stubs = []

    def answer(request: Request, seed: int | None) -> Reply:
        if isinstance(request, Label):
            stubs.append(request.stub)
            return Reply(label_logprobs=(math.log(0.6), math.log(0.4)))
        return thinks(request, seed)

    settings = Pairwise(thinking=200, think_tags=("", "</think>"))
    await both_orders(ask(answer, settings))
    assert stubs == [f"\n{THOUGHT}\n</think>\n\n"] * 2


def test_the_share_is_a_better_label_than_one_word_on_a_planted_judge() -> None:
    # 200 comparisons with P(A) from .05 to .95; one word or eight of them, by squared error.
    errors = {1: 0.0, 8: 0.0}
    state = 7
    for number in range(200):
        p = 0.05 + 0.9 * number / 199
        for count in errors:
            votes = []
            for _ in range(count):
                state = (1103515245 * state + 12345) % 2**31
                votes.append(A if state / 2**31 < p else B)
            pooled = pool_votes(votes)
            said = float(pooled.choice is Choice.A) if count == 1 else sigmoid(pooled.logit or 0.0)
            errors[count] += (said - p) ** 2 / 200
    assert errors[8] < 0.025 < 0.12 < errors[1]
