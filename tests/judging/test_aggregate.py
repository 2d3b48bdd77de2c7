import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rlaif.judging import aggregate_verdicts, read_opinions, sigmoid
from rlaif.records import Choice, Judgment, Order, Verdict
from tests.judging.fake import COMPARISON


def verdict(
    order: Order,
    logit: float | None = None,
    *,
    choice: Choice | None = None,
    judge: str = "main",
    principle: str = "p",
) -> Verdict:
    if choice is None:
        assert logit is not None
        choice = Choice.TIE if logit == 0 else Choice.A if logit > 0 else Choice.B
    reason = "unreadable" if choice is Choice.ABSTAIN else ""
    return Verdict(judge, "test", principle, order, choice, logit=logit, reason=reason)


def judged(*verdicts: Verdict, weights: dict[tuple[str, str], float] | None = None) -> Judgment:
    return aggregate_verdicts(COMPARISON, verdicts, weights=weights)


def test_a_planted_position_bias_of_one_cancels_and_is_reported() -> None:
    # The judge adds +1.0 to what it sees first; the first response is worth +2.0.
    # AB shows it first: 2 + 1 = 3. BA shows the second first: −2 + 1 = −1.
    judgment = judged(verdict(Order.AB, 3.0), verdict(Order.BA, -1.0))
    assert judgment.preference == pytest.approx(0.8807970779778823)  # σ(2)
    assert judgment.raw_preference == judgment.preference
    assert judgment.position_bias == pytest.approx(1.0)
    assert judgment.transforms == ()
    assert (judgment.agreement, judgment.abstained) == (1.0, 0)


def test_a_judge_that_always_says_a_is_worth_half() -> None:
    judgment = judged(verdict(Order.AB, 2.5), verdict(Order.BA, 2.5))
    assert judgment.preference == 0.5
    assert judgment.position_bias == 2.5
    words = judged(verdict(Order.AB, choice=Choice.A), verdict(Order.BA, choice=Choice.A))
    assert words.preference == 0.5
    assert words.position_bias is None


def test_opinions_are_pooled_as_probabilities_by_weight() -> None:
    # main: σ(2) = 0.880797 (weight 3); other: B in words = 0 (weight 1); → 0.75 · 0.880797
    judgment = judged(
        verdict(Order.AB, 2.0),
        verdict(Order.BA, -2.0),
        verdict(Order.NONE, choice=Choice.B, judge="other"),
        weights={("main", "p"): 3.0, ("other", "p"): 1.0},
    )
    assert judgment.preference == pytest.approx(0.6605978084834117)
    assert judgment.agreement == 0.5


def test_words_count_one_half_and_nothing_over_both_orders() -> None:
    both = judged(verdict(Order.AB, choice=Choice.A), verdict(Order.BA, choice=Choice.TIE))
    assert both.preference == 0.75
    none = judged(verdict(Order.NONE, choice=Choice.TIE))
    assert none.preference == 0.5


def test_a_word_beside_a_number_is_averaged_as_a_probability() -> None:
    judgment = judged(verdict(Order.AB, 2.0), verdict(Order.BA, choice=Choice.A))
    assert judgment.preference == pytest.approx(sigmoid(2.0) / 2)


def test_an_abstention_in_one_order_makes_the_opinion_missing() -> None:
    alone = judged(verdict(Order.AB, 3.0), verdict(Order.BA, choice=Choice.ABSTAIN))
    assert (alone.preference, alone.raw_preference, alone.agreement) == (None, None, None)
    assert (alone.position_bias, alone.margin, alone.abstained) == (None, None, 1)
    beside = judged(
        verdict(Order.AB, 3.0),
        verdict(Order.BA, choice=Choice.ABSTAIN),
        verdict(Order.NONE, 1.0, judge="other"),
    )
    assert beside.preference == pytest.approx(sigmoid(1.0))
    assert beside.abstained == 1


def test_one_order_counts_when_only_one_was_asked() -> None:
    judgment = judged(verdict(Order.BA, -2.0))
    assert judgment.preference == pytest.approx(sigmoid(2.0))
    assert judgment.position_bias is None


def test_no_verdicts_no_preference() -> None:
    assert judged().preference is None
    weightless = judged(verdict(Order.NONE, 1.0), weights={("main", "p"): 0.0})
    assert (weightless.preference, weightless.agreement) == (None, None)


def test_a_cap_that_changes_something_is_on_record_beside_the_raw_value() -> None:
    # raw: (40 + (−11)) / 2 = 14.5; capped: (10 − 10) / 2 = 0
    judgment = judged(verdict(Order.AB, 40.0), verdict(Order.BA, 11.0))
    assert judgment.preference == 0.5
    assert judgment.raw_preference == pytest.approx(sigmoid(14.5))
    assert judgment.transforms == ("cap-logit(10)",)
    assert judgment.position_bias == 10.0


def test_repetitions_of_an_order_are_averaged_first() -> None:
    judgment = judged(
        verdict(Order.AB, 1.0),
        verdict(Order.AB, 5.0),
        verdict(Order.AB, choice=Choice.ABSTAIN),
        verdict(Order.BA, -1.0),
    )
    assert judgment.preference == pytest.approx(sigmoid(2.0))  # (3 + 1) / 2
    assert judgment.abstained == 1


def test_agreement_counts_opinions_and_can_fall_below_half() -> None:
    certain = verdict(Order.NONE, 8.0, principle="p0")
    doubtful = [verdict(Order.NONE, -0.1, principle=f"p{n}") for n in (1, 2)]
    judgment = judged(certain, *doubtful)
    assert judgment.preference is not None
    assert judgment.preference > 0.5
    assert judgment.agreement == pytest.approx(1 / 3)
    tied = judged(certain, verdict(Order.NONE, choice=Choice.TIE, principle="p1"))
    assert tied.agreement == 0.75


def test_biases_are_averaged_over_opinions_that_have_one() -> None:
    judgment = judged(
        verdict(Order.AB, 3.0),
        verdict(Order.BA, -1.0),
        verdict(Order.AB, 0.0, principle="q"),
        verdict(Order.BA, 0.0, principle="q"),
        verdict(Order.NONE, choice=Choice.A, judge="rules"),
    )
    assert judgment.position_bias == pytest.approx(0.5)


LOGITS = st.floats(-30, 30)
CHOICES = st.sampled_from(list(Choice))


@st.composite
def verdict_lists(draw: st.DrawFn) -> list[Verdict]:
    verdicts = []
    for judge in ("one", "two"):
        for principle in ("p", "q"):
            orders = draw(
                st.sampled_from([(Order.AB, Order.BA), (Order.AB,), (Order.BA,), (Order.NONE,), ()])
            )
            for order in orders:
                logit = draw(st.none() | LOGITS)
                choice = draw(CHOICES) if logit is None else None
                verdicts.append(
                    verdict(order, logit, choice=choice, judge=judge, principle=principle)
                )
    return verdicts


def same(one: Judgment, other: Judgment) -> None:
    names = ("preference", "raw_preference", "agreement", "position_bias", "disagreement")
    for name in names:
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None)
        assert left is None or left == pytest.approx(right, abs=1e-9)
    blank: dict[str, Any] = dict.fromkeys(names)
    assert replace(one, **blank) == replace(other, **blank)


@given(verdict_lists(), st.floats(0.1, 5), st.floats(0, 5, allow_subnormal=False))
def test_swapping_before_or_after_is_the_same(
    verdicts: list[Verdict], heavy: float, light: float
) -> None:
    weights = {("one", "p"): heavy, ("two", "q"): light}
    straight = aggregate_verdicts(COMPARISON, verdicts, weights=weights)
    turned = straight.swap().verdicts
    same(aggregate_verdicts(COMPARISON.swap(), turned, weights=weights), straight.swap())
    same(straight.swap().swap(), straight)


@given(verdict_lists())
def test_every_figure_stays_in_its_range(verdicts: list[Verdict]) -> None:
    judgment = aggregate_verdicts(COMPARISON, verdicts)
    assert judgment.abstained == sum(v.choice is Choice.ABSTAIN for v in verdicts)
    assert (judgment.preference is None) == (not read_opinions(verdicts))
    for value in (judgment.preference, judgment.raw_preference, judgment.agreement):
        assert value is None or 0.0 <= value <= 1.0


@given(st.floats(-8, 8), st.floats(-2, 2))
def test_any_bias_within_the_cap_leaves_the_preference_alone(content: float, bias: float) -> None:
    judgment = judged(verdict(Order.AB, content + bias), verdict(Order.BA, -content + bias))
    assert judgment.preference == pytest.approx(sigmoid(content), abs=1e-9)
    assert judgment.position_bias == pytest.approx(bias, abs=1e-9)


def test_infinite_weight_of_certainty_is_bounded_by_the_pool() -> None:
    rules = verdict(Order.NONE, choice=Choice.A, judge="rules")
    rest = [verdict(Order.NONE, -2.0, principle=f"p{n}") for n in range(3)]
    judgment = judged(rules, *rest)
    assert judgment.preference == pytest.approx((1 + 3 * sigmoid(-2.0)) / 4)
    assert math.isfinite(judgment.preference or math.nan)
