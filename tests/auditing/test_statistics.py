"""Statistics against values computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rlaif.auditing.statistics.accuracy import (
    measure_accuracy,
    measure_alpha,
    measure_kappa,
    measure_longer,
    measure_tie_agreement,
)
from rlaif.auditing.statistics.consistency import (
    measure_position,
    measure_stability,
    measure_triads,
)
from rlaif.auditing.statistics.length import fit_log_odds, fit_picks
from rlaif.auditing.statistics.reliability import measure_reliability, reliability_of
from rlaif.auditing.statistics.silence import measure_mass, measure_silence
from rlaif.evaluation.intervals import Figure, bootstrap_figure, mean_of, wilson
from rlaif.judging import sigmoid
from rlaif.records import Choice, Order, content_uniform
from tests.auditing.factories import outcome, verdict


def value(figure: Figure | None) -> float:
    assert figure is not None
    return figure.value


def test_accuracy_is_over_decided_gold_and_answered_pairs() -> None:
    outcomes = [
        outcome(0.9, "a", cluster="1"),
        outcome(0.2, "a", cluster="2"),
        outcome(0.5, "b", cluster="3"),  # a tie of the judge: half
        outcome(None, "b", cluster="4"),  # no answer: not counted
        outcome(0.9, "tie", cluster="5"),  # gold tie: not counted
    ]
    found = measure_accuracy(outcomes)
    assert (found.decided, found.answered) == (4, 3)
    assert value(found.figure) == pytest.approx(1.5 / 3)
    # Variance between prompts ½/9 · 3/2 = 1/12, so n = ¼·12 = 3, times (1.96/4.27)² for two
    # degrees of freedom: 0.632, of which 0.316 hold.
    assert found.figure is not None
    assert found.figure.low == pytest.approx(wilson(0.316, 0.632)[0], abs=1e-3)


def test_pairs_of_two_prompts_are_two_observations() -> None:
    # Ten pairs of one prompt that are all right, ten of another that are all wrong: one of two,
    # and with one degree of freedom not even that.
    outcomes = [outcome(0.9, "a", cluster="right") for _ in range(10)]
    outcomes += [outcome(0.1, "a", cluster="wrong") for _ in range(10)]
    figure = measure_accuracy(outcomes).figure
    assert figure is not None
    assert figure.low is not None
    assert figure.low < wilson(1, 2)[0]


def test_a_judge_that_answers_nothing_is_not_measured() -> None:
    found = measure_accuracy([outcome(None)])
    assert found.figure is None
    assert found.against_chance == "not measured"


def test_against_chance_needs_an_interval_beyond_one_half() -> None:
    good = [outcome(0.9, "a", cluster=str(i)) for i in range(20)]
    bad = [outcome(0.1, "a", cluster=str(i)) for i in range(20)]
    assert measure_accuracy(good).against_chance == "above chance"
    assert measure_accuracy(bad).against_chance == "below chance"
    assert "not distinguishable" in measure_accuracy(good[:2]).against_chance


def test_picking_the_longer_counts_equal_lengths_half() -> None:
    outcomes = [
        outcome(0.5, "a", cluster="1", lengths=(20, 10)),
        outcome(0.5, "b", cluster="2", lengths=(20, 10)),
        outcome(0.5, "b", cluster="3", lengths=(7, 7)),
        outcome(0.5, "tie", cluster="4", lengths=(1, 9)),
    ]
    assert value(measure_longer(outcomes).figure) == pytest.approx(0.5)


def test_ties_are_compared_with_gold_ties_alone() -> None:
    outcomes = [outcome(0.5, "tie", cluster="1"), outcome(0.8, "tie", cluster="2")]
    outcomes += [outcome(0.5, "a", cluster="3"), outcome(None, "tie", cluster="4")]
    assert value(measure_tie_agreement(outcomes)) == 0.5


def test_kappa_of_a_known_table() -> None:
    # gold a: 20 judged a, 5 judged b; gold b: 10 judged a, 15 judged b. p_o .7, p_e .5.
    table = {("a", 0.9): 20, ("a", 0.1): 5, ("b", 0.9): 10, ("b", 0.1): 15}
    outcomes = [
        outcome(preference, gold, cluster=f"{gold}{preference}{i}")
        for (gold, preference), count in table.items()
        for i in range(count)
    ]
    assert value(measure_kappa(outcomes, seed=0)) == pytest.approx(0.4)


def test_alpha_of_two_judges_over_ten_pairs() -> None:
    # Krippendorff (2011), example A: two observers, binary data, ten units, alpha 0.095.
    first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    panel = {
        name: [outcome(0.9 if r else 0.1, cluster=str(i)) for i, r in enumerate(ratings)]
        for name, ratings in {"one": first, "two": second}.items()
    }
    assert value(measure_alpha(panel, seed=0)) == pytest.approx(0.095, abs=5e-4)
    assert measure_alpha({"one": panel["one"]}, seed=0) is None


def test_an_abstention_is_a_missing_value_for_alpha() -> None:
    ratings = [(0.9, 0.9), (0.1, 0.1), (0.9, None), (None, 0.1)]
    panel = {
        str(judge): [outcome(pair[judge], cluster=str(i)) for i, pair in enumerate(ratings)]
        for judge in (0, 1)
    }
    found = measure_alpha(panel, seed=0)
    assert value(found) == 1.0
    assert found is not None
    assert found.n == 2


def both(ab: float, ba: float, *, cluster: str) -> object:
    """A judge's log-odds for what is shown first, in both orders."""
    verdicts = [verdict(Order.AB, ab), verdict(Order.BA, ba)]
    return outcome(0.5, cluster=cluster, verdicts=verdicts)


def test_position_of_four_hand_made_pairs() -> None:
    outcomes = [
        both(2.0, -1.0, cluster="1"),  # the first response in both: consistent; bias .5
        both(1.0, 1.0, cluster="2"),  # whatever is shown first; bias 1
        both(3.0, 1.0, cluster="3"),  # the same; bias 2
        both(-1.0, -2.0, cluster="4"),  # whatever is shown second; bias −1.5
    ]
    found = measure_position(outcomes, seed=0)  # type: ignore[arg-type]
    assert value(found.consistency) == 0.25
    assert value(found.bias) == pytest.approx((0.5 + 1.0 + 2.0 - 1.5) / 4)
    assert value(found.fairness) == pytest.approx((2 - 1) / 3)


def test_position_says_nothing_about_a_method_without_order() -> None:
    found = measure_position([outcome(0.9, verdicts=[verdict(Order.NONE, 2.0)])], seed=0)
    assert (found.consistency, found.bias, found.fairness) == (None, None, None)


def test_the_length_effect_in_log_odds_is_exact_without_noise() -> None:
    outcomes = []
    for i in range(40):
        gold = "a" if content_uniform(0, "g", i) < 0.5 else "b"
        lengths = (10 + int(90 * content_uniform(0, "l", i)), 40)
        doublings = math.log2((lengths[0] + 1) / 41)
        logit = 0.3 + 0.7 * doublings + (1.2 if gold == "a" else -1.2)
        outcomes.append(outcome(sigmoid(logit), gold, cluster=str(i), lengths=lengths))
    found = fit_log_odds(outcomes)
    assert value(found) == pytest.approx(0.7)
    assert found is not None
    assert found.low == pytest.approx(0.7)


def test_the_length_effect_on_picks_is_that_of_a_two_by_two_table() -> None:
    # Doublings 1 or 0, gold always a: the fit is saturated, so the effect is the log-odds ratio.
    table = {(21, True): 30, (21, False): 10, (10, True): 12, (10, False): 24}
    outcomes = [
        outcome(0.9 if picked else 0.1, "a", cluster=f"{n}{picked}{i}", lengths=(n, 10))
        for (n, picked), count in table.items()
        for i in range(count)
    ]
    doublings = math.log2(22 / 11)
    expected = (math.log(30 / 10) - math.log(12 / 24)) / doublings
    found = fit_picks(outcomes)
    assert value(found) == pytest.approx(expected, rel=1e-6)
    # Woolf's standard error of a log-odds ratio; the clusters are single pairs.
    woolf = math.sqrt(1 / 30 + 1 / 10 + 1 / 12 + 1 / 24) / doublings
    assert found is not None
    assert found.low is not None
    assert found.value - found.low == pytest.approx(1.96 * woolf, rel=0.02)


def test_picks_that_are_perfectly_explained_have_no_length_effect() -> None:
    outcomes = [
        outcome(0.9 if i % 2 else 0.1, "a" if i % 2 else "b", cluster=str(i), lengths=(10 + i, 20))
        for i in range(20)
    ]
    assert fit_picks(outcomes) is None


def test_silence_counts_reasons() -> None:
    mute = verdict(Order.AB, reason="refused")
    outcomes = [
        outcome(0.5, cluster="1", verdicts=[verdict(Order.AB, 1.0), verdict(Order.BA, 1.0)]),
        outcome(None, cluster="2", verdicts=[mute, verdict(Order.BA, reason="unreadable")]),
    ]
    found = measure_silence(outcomes)
    assert found.reasons == {"refused": 1, "unreadable": 1}
    assert value(found.abstained) == 0.5
    assert value(found.undecided) == 0.5
    assert value(found.ties) == 1.0


def test_mass_is_summarised_where_it_is_known() -> None:
    masses = [0.2, 0.6, 1.0]
    outcomes = [
        outcome(0.9, cluster=str(i), verdicts=[verdict(Order.AB, 1.0, mass=mass)])
        for i, mass in enumerate(masses)
    ]
    found = measure_mass(outcomes)
    assert found is not None
    assert found.mean.value == pytest.approx(0.6)
    assert found.least == 0.2
    assert found.below_half == pytest.approx(1 / 3)
    assert measure_mass([outcome(0.9)]) is None


def test_expected_calibration_error_of_two_bins() -> None:
    # Four at .9 of which three right (.15 off), two at .6 of which one right (.1 off).
    confidence = [0.92] * 4 + [0.62] * 2
    correct = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    found = reliability_of(confidence, correct, [str(i) for i in range(6)], seed=0)
    assert found is not None
    assert found.binned == pytest.approx((4 * 0.17 + 2 * 0.12) / 6)
    assert [one.n for one in found.bins] == [2, 4]
    squared = 3 * 0.08**2 + 0.92**2 + 0.38**2 + 0.62**2
    assert found.brier.value == pytest.approx(squared / 6)


def test_calibration_does_not_depend_on_which_response_is_first() -> None:
    one = measure_reliability(
        [outcome(0.8, "a", cluster="1"), outcome(0.8, "b", cluster="2")], seed=0
    )
    other = measure_reliability(
        [outcome(0.2, "b", cluster="1"), outcome(0.2, "a", cluster="2")], seed=0
    )
    assert one is not None
    assert other is not None
    assert one.ece.value == pytest.approx(other.ece.value)


def test_stability_is_the_share_of_the_most_frequent_choice() -> None:
    a, b = Choice.A, Choice.B
    found = measure_stability(["1", "2"], [[a, a, b], [a, a, a]])
    assert value(found) == pytest.approx((2 / 3 + 1) / 2)
    assert measure_stability([], []) is None


def game(first: str, second: str, *, cluster: str = "p") -> object:
    """The first beats the second."""
    return outcome(0.9, cluster=cluster, ids=(first, second))


def test_one_of_the_two_triads_is_cyclic() -> None:
    ring = [game("a", "b"), game("b", "c"), game("c", "a")]
    line = [game("x", "y", cluster="q"), game("y", "z", cluster="q"), game("x", "z", cluster="q")]
    found = measure_triads([*ring, *line])  # type: ignore[list-item]
    assert found is not None
    assert found.cyclic.value == 0.5
    assert found.prompts == 2
    assert measure_triads(ring[:2]) is None  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=12), st.integers(0, 5))
def test_the_interval_of_a_mean_holds_it_and_ignores_order(values: list[float], seed: int) -> None:
    clusters = [str(i // 2) for i in range(len(values))]
    found = bootstrap_figure(mean_of(values), clusters, seed=seed, resamples=300)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low - 1e-9 <= np.mean(values) <= found.high + 1e-9
    turned = bootstrap_figure(mean_of(values[::-1]), clusters[::-1], seed=seed, resamples=300)
    assert turned is not None
    assert turned.low == pytest.approx(found.low)


def test_pairs_of_one_prompt_are_one_observation() -> None:
    once = bootstrap_figure(mean_of([0.0, 1.0, 1.0]), ["1", "2", "3"], seed=0)
    often = bootstrap_figure(mean_of([0.0, 1.0, 1.0] * 9), ["1", "2", "3"] * 9, seed=0)
    assert once is not None
    assert often is not None
    assert (once.low, once.high) == (often.low, often.high)
    alone = bootstrap_figure(mean_of([0.0, 1.0]), ["1", "1"], seed=0)
    assert alone is not None
    assert alone.method == "none"
