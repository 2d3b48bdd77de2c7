import math

import pytest

from rlaif.engines import Capability, Reply, Request, Score
from rlaif.errors import CallFailed, EngineMissing
from rlaif.judging import REWARD_PRINCIPLE, Judge, Reward, build_judge, judge_comparison
from rlaif.records import Choice, Order
from rlaif.templates import TemplateSet
from tests.judging.fake import BRIEF, COMPARISON, FIRST, KIND, PROMPT, FakeEngine, always
from tests.judging.test_panel import SHORT

ABLE = frozenset({Capability.REWARD})


def scored(request: Request) -> Reply:
    assert isinstance(request, Score)
    return Reply(score=1.5 if request.continuation == FIRST.text else -0.5)


def judge(engine: FakeEngine, settings: Reward | None = None) -> Judge:
    return build_judge(
        name="rm", method="reward", engine=engine, templates=TemplateSet.open(), settings=settings
    )


async def test_the_difference_of_scores_is_the_log_odds() -> None:
    engine = FakeEngine(scored, ABLE)
    (verdict,) = await judge(engine).judge(PROMPT, COMPARISON, [KIND, BRIEF])
    assert (verdict.logit, verdict.scores, verdict.choice) == (2.0, (1.5, -0.5), Choice.A)
    assert (verdict.principle, verdict.order) == (REWARD_PRINCIPLE, Order.NONE)
    assert [r.messages for r in engine.asked] == [PROMPT.messages] * 2
    (softer,) = await judge(engine, Reward(scale=0.5)).judge(PROMPT, COMPARISON, [KIND])
    assert softer.logit == 1.0


async def test_it_weighs_as_much_as_all_drawn_principles_together() -> None:
    # The drawn ones stand for a weight of 2; the rule (weight 1) says the first: (2·σ(2) + 1)/3.
    judgment = await judge_comparison(
        PROMPT,
        COMPARISON,
        judges=[(judge(FakeEngine(scored, ABLE)), 1.0)],
        drawn=[KIND],
        candidates=[KIND, BRIEF],
        rules=[SHORT],
    )
    assert judgment.preference == pytest.approx((2 * 0.8807971 + 1) / 3)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Reply(), "unreadable"),
        (Reply(score=math.nan), "unreadable"),
        (CallFailed("too long", kind="context-length"), "failed"),
    ],
)
async def test_without_both_scores_it_abstains(bad: Reply | CallFailed, reason: str) -> None:
    def answer(request: Request) -> Reply:
        if isinstance(request, Score) and request.continuation == FIRST.text:
            if isinstance(bad, CallFailed):
                raise bad
            return bad
        return scored(request)

    (verdict,) = await judge(FakeEngine(answer, ABLE)).judge(PROMPT, COMPARISON, [KIND])
    assert (verdict.choice, verdict.reason, verdict.scores) == (Choice.ABSTAIN, reason, None)


def test_it_costs_a_score_per_response_whatever_the_principles_and_needs_a_reward_model() -> None:
    cost = judge(FakeEngine(scored, ABLE)).cost
    assert cost.calls(comparisons=6, responses=4, principles=9) == 4
    with pytest.raises(EngineMissing, match="needs reward"):
        judge(FakeEngine(always(Reply())))
