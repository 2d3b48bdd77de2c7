"""Intervals hold the truth as often as they say, where it is hard; scripts/experiments has all."""

import numpy as np
import pytest

from rlaif.auditing.statistics.censored import Limited, mean_of_limited
from rlaif.auditing.statistics.reliability import reliability_of
from rlaif.evaluation.intervals import (
    Figure,
    estimate_difference,
    estimate_mean,
    share_figure,
    student_t,
)

Table = dict[str, tuple[float, ...]]


def table(random: np.random.Generator, share: float, prompts: int, alike: float) -> Table:
    """Four responses to each prompt, which are alike to some degree."""
    a, b = (x * (1 - alike) / alike for x in (share, 1 - share))
    rates = random.beta(a, b, prompts)
    return {str(i): tuple(float(x) for x in random.random(4) < r) for i, r in enumerate(rates)}


@pytest.mark.parametrize(("share", "prompts", "alike"), [(0.02, 100, 0.3), (0.05, 30, 0.8)])
def test_a_rare_share_lies_above_its_interval_no_more_often_than_nominal(
    share: float, prompts: int, alike: float
) -> None:
    random = np.random.default_rng(0)
    ends = []
    for _ in range(400):
        drawn = table(random, share, prompts, alike)
        figure = estimate_mean(drawn, share=True, seed=0)
        items = [value for row in drawn.values() for value in row]
        of_audit = share_figure(items, [prompt for prompt, row in drawn.items() for _ in row])
        assert figure is not None
        assert of_audit is not None
        assert (figure.low, figure.high) == pytest.approx((of_audit.low, of_audit.high))
        ends.append((figure.low, figure.high))
    low, high = (np.array(side) for side in zip(*ends, strict=True))
    assert np.mean(high < share) <= 0.035
    assert np.mean((low <= share) & (share <= high)) >= 0.93


def test_none_of_a_prompts_responses_says_no_more_than_one_of_them() -> None:
    one: Table = {str(i): (0.0,) for i in range(20)}
    four: Table = {str(i): (0.0,) * 4 for i in range(20)}
    assert estimate_mean(one, share=True, seed=0) == estimate_mean(four, share=True, seed=0)


def test_the_difference_of_rare_shares_holds_the_truth() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        before, after = table(random, 0.02, 50, 0.3), table(random, 0.05, 50, 0.3)
        figure = estimate_difference(before, after, share=True, seed=0)
        assert figure is not None
        held += figure.holds(0.03)
    assert held / 300 >= 0.93


def test_the_same_prompts_on_both_sides_narrow_a_difference() -> None:
    random = np.random.default_rng(2)
    base = {str(i): (float(random.random() < 0.5),) for i in range(100)}
    turned = dict(zip(base, reversed(base.values()), strict=True))
    alone = estimate_difference(base, {**base, "0": (1.0,)}, share=True, seed=0)
    mixed = estimate_difference(base, turned, share=True, seed=0)
    assert alone is not None
    assert mixed is not None
    assert width(alone) < 0.5 * width(mixed)


def width(figure: Figure) -> float:
    assert figure.low is not None
    assert figure.high is not None
    return figure.high - figure.low


def test_students_quantiles_are_those_of_the_tables() -> None:
    for clusters, t in ((4, 3.1824), (6, 2.5706), (11, 2.2281), (31, 2.0423), (121, 1.9799)):
        assert student_t(clusters) == pytest.approx(t, abs=5e-3)


@pytest.mark.parametrize("t", [1.0, 1.5, 3.0])
def test_the_calibration_error_lies_in_its_interval_and_is_not_inflated(t: float) -> None:
    random = np.random.default_rng(int(10 * t))
    truth = 0.0
    if t > 1.0:
        logit = np.abs(random.normal(0, 1.6, 400_000))
        truth = float(np.mean(1 / (1 + np.exp(-logit)) - 1 / (1 + np.exp(-logit / t))))
    held, values, plain = 0, [], []
    for at in range(100):
        logit = np.abs(random.normal(0, 1.6, 120))
        sure = 1 / (1 + np.exp(-logit))
        right = random.random(120) < 1 / (1 + np.exp(-logit / t))
        clusters = [str(i // 2) for i in range(120)]
        found = reliability_of(sure.tolist(), right.astype(float).tolist(), clusters, seed=at)
        assert found is not None
        held += found.ece.holds(truth)
        values.append(found.ece.value)
        plain.append(found.binned)
    assert held >= 92
    assert abs(np.mean(values) - truth) < 0.6 * abs(np.mean(plain) - truth) + 0.005


def limits(bias: float, contents: list[float], cap: float, seed: int) -> list[Limited]:
    """What a judge says in both orders about pairs of so much content, cut at a cap."""
    random = np.random.default_rng(seed)
    made = []
    for at, content in enumerate(contents):
        one, other = (sign * content + bias + 0.5 * random.normal() for sign in (1, -1))
        shown = [min(cap, max(-cap, x)) for x in (one, other)]
        sides = {int(np.sign(x)) for x in shown if abs(x) >= cap}
        if len(sides) < 2:
            room = cap - abs(shown[0] - shown[1]) / 2
            made.append(Limited(str(at), sum(shown) / 2, sides.pop() if sides else 0, room))
    return made


@pytest.mark.parametrize("bias", [3.0, -3.0])
def test_the_bias_of_a_saturated_judge_is_found_behind_the_cap(bias: float) -> None:
    contents = np.random.default_rng(5).normal(0, 9, 300).tolist()
    items = limits(bias, contents, 10.0, 1)
    figure = mean_of_limited(items, seed=0)
    assert figure is not None
    few = mean_of_limited([item for item in items if item.room < 4.0], seed=0)
    assert few is not None
    assert few.method == "tobit"
    assert abs(few.value - bias) < 0.3
    assert abs(figure.value - bias) < 0.15
    taken_as_numbers = np.mean([item.value for item in items])
    assert abs(taken_as_numbers) < 2.7


@pytest.mark.parametrize("bias", [3.0, -3.0])
def test_limits_alone_say_at_least(bias: float) -> None:
    items = limits(bias, [9.0, -9.0] * 50, 10.0, 2)
    figure = mean_of_limited(items, seed=0)
    assert figure is not None
    assert figure.method == "at-least"
    assert 1.5 < abs(figure.value) < 3.0
    assert (figure.high if bias > 0 else figure.low) is None


def test_numbers_that_are_all_known_have_their_mean() -> None:
    figure = mean_of_limited([Limited(str(i), float(i % 3)) for i in range(30)], seed=0)
    assert figure is not None
    assert (figure.value, figure.method) == (1.0, "bootstrap")
