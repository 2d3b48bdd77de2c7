import math

import pytest

from rlaif.engines import Label, Reply, Request
from rlaif.errors import CallFailed
from rlaif.judging import Judge, Pointwise, build_judge, read_expected, sigmoid
from rlaif.records import Choice, Order
from rlaif.templates import TemplateSet
from tests.judging.fake import BRIEF, COMPARISON, FIRST, KIND, PROMPT, FakeEngine, always


def scores(**probabilities: float) -> Reply:
    """Log-probabilities of 1 to 9, given as _7=0.5; 0 is a label that was not reported."""
    shares = [probabilities.get(f"_{n}", 0.0) for n in range(1, 10)]
    return Reply(label_logprobs=tuple(math.log(p) if p else None for p in shares))


def even(mass: float = 1.0) -> Reply:
    return scores(**{f"_{n}": mass / 9 for n in range(1, 10)})


def judge(engine: FakeEngine, settings: Pointwise | None = None, **options: float) -> Judge:
    return build_judge(
        name="main",
        method="pointwise",
        engine=engine,
        templates=TemplateSet.open(),
        settings=settings,
        **options,  # type: ignore[arg-type]
    )


def rated(request: Request) -> Reply:
    # first: 7·¼ + 8·½ + 9·¼ = 8 → 0.75; second: 1·½ + 3·½ = 2 → −0.75
    if FIRST.text in request.messages[-1]["content"]:
        return _full({7: 0.25, 8: 0.5, 9: 0.25})
    return _full({1: 0.5, 3: 0.5})


def _full(shares: dict[int, float]) -> Reply:
    """All nine labels reported, the others with next to nothing."""
    return Reply(
        label_logprobs=tuple(math.log(shares[n]) if n in shares else -60.0 for n in range(1, 10))
    )


async def test_the_difference_of_expected_scores_becomes_log_odds() -> None:
    engine = FakeEngine(rated)
    (verdict,) = await judge(engine).judge(PROMPT, COMPARISON, [BRIEF])
    assert verdict.scores == pytest.approx((0.75, -0.75))
    assert verdict.logit == pytest.approx(4.0 * 1.5)
    assert (verdict.choice, verdict.order, verdict.reason) == (Choice.A, Order.NONE, "")
    assert verdict.mass == pytest.approx(1.0)
    assert len(verdict.calls) == 2
    requests = [request for request in engine.asked if isinstance(request, Label)]
    assert {request.labels for request in requests} == {tuple("123456789")}
    halved = judge(engine, Pointwise(scale=2.0))
    (verdict,) = await halved.judge(PROMPT, COMPARISON, [BRIEF])
    assert verdict.logit == pytest.approx(3.0)


async def test_one_point_of_nine_is_worth_log_odds_of_one() -> None:
    engine = FakeEngine(
        lambda request: _full({6 if FIRST.text in request.messages[-1]["content"] else 5: 1.0})
    )
    (verdict,) = await judge(engine).judge(PROMPT, COMPARISON, [BRIEF])
    assert verdict.logit == pytest.approx(1.0)
    assert sigmoid(verdict.logit or 0.0) == pytest.approx(0.7310585786)


async def test_swapping_the_comparison_turns_the_sign_and_asks_the_same() -> None:
    engine = FakeEngine(rated)
    (straight,) = await judge(engine).judge(PROMPT, COMPARISON, [KIND])
    (swapped,) = await judge(engine).judge(PROMPT, COMPARISON.swap(), [KIND])
    assert swapped.logit == -(straight.logit or 0.0)
    assert engine.asked[:2] == engine.asked[3:1:-1]


async def test_one_score_that_is_missing_makes_the_verdict_an_abstention() -> None:
    def answer(request: Request) -> Reply:
        if FIRST.text in request.messages[-1]["content"]:
            raise CallFailed("no", kind="http-500")
        return even()

    (verdict,) = await judge(FakeEngine(answer)).judge(PROMPT, COMPARISON, [BRIEF])
    assert (verdict.choice, verdict.reason, verdict.raw) == (
        Choice.ABSTAIN,
        "failed",
        "http-500: no",
    )
    assert (verdict.logit, verdict.scores, verdict.calls) == (None, None, ())


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (even(mass=0.05), "low-mass"),
        (Reply(text="seven"), "unreadable"),
        (Reply(finish="refusal"), "refused"),
    ],
)
async def test_what_cannot_be_read_abstains_with_its_reason(reply: Reply, reason: str) -> None:
    (verdict,) = await judge(FakeEngine(always(reply)), min_mass=0.1).judge(
        PROMPT, COMPARISON, [BRIEF]
    )
    assert (verdict.choice, verdict.reason) == (Choice.ABSTAIN, reason)


def test_the_expected_value_is_normalised_over_the_labels() -> None:
    # half of the mass is elsewhere: (2·0.3 + 4·0.2)/0.5 = 2.8
    reply = Reply(label_logprobs=(-60.0, math.log(0.3), -60.0, math.log(0.2)))
    read = read_expected(reply, labels=4)
    assert read.value == pytest.approx(2.8)
    assert read.mass == pytest.approx(0.5)


def test_labels_that_could_still_move_the_value_make_it_unknown() -> None:
    # 7 and 8 reported; seven others have at most min(1 − 0.9, 14·0.1) = 0.1 together:
    # 0.1·8/(0.9 + 0.1) = 0.8 points, more than half a point
    assert read_expected(scores(_7=0.8, _8=0.1), labels=9).reason == "unreadable"
    # at most min(0.01, …) = 0.01 → 0.08 points
    known = read_expected(scores(_7=0.8, _8=0.19), labels=9)
    assert known.value == pytest.approx((7 * 0.8 + 8 * 0.19) / 0.99)
    # much mass elsewhere, but hidden labels are rarer than the rarest reported: 12·0.001 = 0.012
    # → 0.012·8/(0.511 + 0.012) = 0.18 points
    rare = read_expected(scores(_6=0.01, _7=0.5, _8=0.001), labels=9)
    assert rare.value is not None


def test_it_costs_one_label_per_response_and_principle() -> None:
    cost = judge(FakeEngine(rated)).cost
    assert cost.per == "response"
    assert cost.calls(comparisons=6, responses=4, principles=3) == 12
