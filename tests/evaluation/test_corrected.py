import numpy as np
import pytest

from rlaif.errors import RecordError
from rlaif.evaluation.corrected import Confusion, correct_rate
from rlaif.evaluation.intervals import Figure, estimate_mean


def test_the_correction_is_what_is_worked_by_hand() -> None:
    # q1 = .8, q0 = .9, p = .31: (.31 + .9 - 1) / (.9 + .8 - 1) = .21 / .7 = .3
    figure = correct_rate(Figure(0.31, 0.25, 0.37, 400, "bootstrap"), Confusion(100, 80, 200, 180))
    assert figure.value == pytest.approx(0.3)
    assert figure.method == "rogan-gladen"
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 0.3 - 0.06 / 0.7  # wider than p's own interval, stretched
    assert figure.high > 0.3 + 0.06 / 0.7


def test_a_perfect_detector_leaves_the_rate_as_it_is() -> None:
    rate = Figure(0.25, 0.2, 0.3, 300, "bootstrap")
    figure = correct_rate(rate, Confusion(100_000, 100_000, 100_000, 100_000))
    assert figure.value == 0.25
    assert (figure.low, figure.high) == pytest.approx((0.2, 0.3), abs=0.005)


def test_a_rate_below_the_false_alarms_is_clipped_to_zero() -> None:
    figure = correct_rate(Figure(0.02, 0.0, 0.04, 100, "bootstrap"), Confusion(50, 45, 50, 45))
    assert figure.value == figure.low == 0.0


@pytest.mark.parametrize("confusion", [Confusion(10, 5, 10, 5), Confusion(10, 1, 10, 8)])
def test_a_detector_no_better_than_chance_is_refused(confusion: Confusion) -> None:
    with pytest.raises(RecordError, match="cannot be corrected"):
        correct_rate(Figure(0.5, 0.4, 0.6, 100, "bootstrap"), confusion)


@pytest.mark.parametrize("counts", [(0, 0, 10, 5), (10, 11, 10, 5), (10, 5, 0, 0), (10, -1, 5, 5)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(RecordError, match="confusion needs"):
        Confusion(*counts)


def test_the_interval_covers_the_true_share_of_clustered_responses() -> None:
    draw = np.random.default_rng(5)
    q1, q0, covered, repeats = 0.8, 0.93, 0, 200
    for repeat in range(repeats):
        chance = draw.beta(0.6, 1.4, 80)  # mean .3; four responses of a prompt are alike
        true = draw.random((80, 4)) < chance[:, None]
        found = np.where(true, draw.random((80, 4)) < q1, draw.random((80, 4)) > q0)
        values = {str(prompt): tuple(map(float, row)) for prompt, row in enumerate(found)}
        rate = estimate_mean(values, share=True, seed=repeat)
        assert rate is not None
        gold = Confusion(120, int(draw.binomial(120, q1)), 150, int(draw.binomial(150, q0)))
        covered += correct_rate(rate, gold, seed=repeat).holds(0.3)
    assert 0.91 <= covered / repeats <= 0.985
