"""Intervals against published figures, numbers worked by hand, and simulation."""

import math
import random

import pytest
from hypothesis import given, strategies as st

from rlaif.evaluation.intervals import (
    bootstrap,
    estimate_difference,
    estimate_mean,
    newcombe,
    prompt_means,
    wilson,
)


def test_wilson_gives_the_interval_worked_by_hand() -> None:
    # 7 of 10, z = 1.95996: centre (0.7 + z²/20) / (1 + z²/10) = 0.892073 / 1.384146 = 0.644494;
    # half z·sqrt(0.021 + z²/400) / 1.384146 = 1.95996·0.174935 / 1.384146 = 0.247708.
    low, high = wilson(7, 10)
    assert low == pytest.approx(0.396786, abs=1e-5)
    assert high == pytest.approx(0.892202, abs=1e-5)


def test_wilson_never_leaves_the_unit_interval_and_has_width_at_its_ends() -> None:
    # 0 of 10: the upper end is z² / (n + z²) = 3.841459 / 13.841459.
    assert wilson(0, 10) == pytest.approx((0.0, 0.277533), abs=1e-6)
    assert wilson(10, 10) == pytest.approx((0.722467, 1.0), abs=1e-6)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.5, 0.99))
def test_wilson_holds_the_share_and_mirrors(n: int, share: float, confidence: float) -> None:
    low, high = wilson(share * n, n, confidence)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1
    mirrored = wilson(n - share * n, n, confidence)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_not_a_share(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="a share needs"):
        wilson(successes, n)


@pytest.mark.parametrize(
    ("before", "after", "n", "low", "high"),
    [
        # Newcombe 1998, table II, method 10, contrasts with equal group sizes.
        (0.3, 0.9, 10, 0.1705, 0.8090),
        (2 / 7, 6 / 7, 7, 0.0582, 0.8062),
        (0.0, 0.0, 10, -0.2775, 0.2775),
        (0.0, 1.0, 10, 0.6075, 1.0),
    ],
)
def test_newcombe_gives_the_published_intervals(
    before: float, after: float, n: int, low: float, high: float
) -> None:
    assert newcombe(before, after, n) == pytest.approx((low, high), abs=1e-4)


def test_prompt_means_leave_out_what_was_not_scored() -> None:
    assert prompt_means({"a": (1.0, None, 0.0), "b": (None, None), "c": (2.0,)}) == {
        "a": 0.5,
        "c": 2.0,
    }


def test_the_bootstrap_of_two_prompts_gives_the_quantiles_worked_by_hand() -> None:
    # Resamples of {0, 1}: mean 0, ½, 1 with probability ¼, ½, ¼, so both tails reach the ends.
    assert bootstrap({"a": 0.0, "b": 1.0}, seed=1) == (0.0, 1.0)


def test_the_bootstrap_comes_near_the_normal_interval_for_many_prompts() -> None:
    draw = random.Random(5)
    means = {str(i): draw.gauss(10, 2) for i in range(400)}
    mean = math.fsum(means.values()) / 400
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in means.values()) / 400)
    low, high = bootstrap(means, seed=3)
    assert low == pytest.approx(mean - 1.96 * spread / 20, abs=0.02)
    assert high == pytest.approx(mean + 1.96 * spread / 20, abs=0.02)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draw = random.Random(11)
    held = 0
    for trial in range(300):
        low, high = bootstrap(
            {f"{trial}-{i}": draw.expovariate(1.0) for i in range(60)}, seed=2, resamples=500
        )
        held += low <= 1.0 <= high
    assert 0.89 <= held / 300 <= 0.98


def test_the_order_of_prompts_changes_nothing_and_the_seed_does() -> None:
    means = {str(i): float(i % 7) for i in range(50)}
    turned = dict(reversed(means.items()))
    assert bootstrap(means, seed=4) == bootstrap(turned, seed=4)
    assert bootstrap(means, seed=4) != bootstrap(means, seed=5)


def test_more_responses_to_the_same_prompts_do_not_narrow_the_interval() -> None:
    one = {str(i): (float(i % 2),) for i in range(40)}
    ten = {key: row * 10 for key, row in one.items()}
    assert estimate_mean(one, share=True, seed=0) == estimate_mean(ten, share=True, seed=0)


def test_every_prompt_counts_the_same_however_many_of_its_responses_were_scored() -> None:
    interval = estimate_mean({"a": (1.0, 1.0, 1.0), "b": (0.0, None, None)}, share=True, seed=0)
    assert interval is not None
    assert interval.value == 0.5


def test_a_share_that_always_holds_gets_a_wilson_interval_over_prompts() -> None:
    interval = estimate_mean({str(i): (1.0, 1.0) for i in range(10)}, share=True, seed=0)
    assert interval is not None
    assert interval.method == "wilson"
    assert (interval.value, interval.low, interval.high) == (1.0, *wilson(10, 10))


def test_nothing_scored_gives_no_number() -> None:
    assert estimate_mean({"a": (None,), "b": ()}, share=False, seed=0) is None
    assert estimate_difference({"a": (1.0,)}, {"a": (None,)}, share=False, seed=0) is None


def test_a_single_prompt_has_an_estimate_and_no_interval() -> None:
    interval = estimate_mean({"a": (3.0, 5.0)}, share=False, seed=0)
    assert interval is not None
    assert (interval.value, interval.low, interval.high) == (4.0, None, None)


def test_a_constant_gain_is_certain_however_different_the_prompts_are() -> None:
    before = {str(i): (float(i),) for i in range(30)}
    after = {key: (row[0] + 2.0,) for key, row in before.items()}
    interval = estimate_difference(before, after, share=False, seed=0)
    assert interval is not None
    assert (interval.value, interval.low, interval.high) == (2.0, 2.0, 2.0)


def test_a_difference_uses_only_prompts_scored_on_both_sides() -> None:
    before = {"a": (0.0,), "b": (None,), "c": (0.0,)}
    after = {"a": (1.0,), "b": (9.0,), "d": (9.0,)}
    interval = estimate_difference(before, after, share=False, seed=0)
    assert interval is not None
    assert interval.value == 1.0


def test_shares_at_the_ends_on_both_sides_get_newcombes_interval() -> None:
    before = {str(i): (0.0,) for i in range(10)}
    after = {str(i): (1.0,) for i in range(10)}
    interval = estimate_difference(before, after, share=True, seed=0)
    assert interval is not None
    assert interval.method == "newcombe"
    assert interval.low == pytest.approx(0.6075, abs=1e-4)


@given(st.dictionaries(st.text(max_size=4), st.lists(st.floats(-5, 5), min_size=1, max_size=4)))
def test_turning_the_comparison_round_turns_the_estimate_round(
    table: dict[str, list[float]],
) -> None:
    other = {key: [value + 1.0 for value in reversed(row)] for key, row in table.items()}
    there = estimate_difference(table, other, share=False, seed=0)
    back = estimate_difference(other, table, share=False, seed=0)
    assert (there is None) == (back is None)
    if there is not None and back is not None:
        assert there.value == pytest.approx(-back.value, abs=1e-9)
