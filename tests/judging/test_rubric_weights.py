import numpy as np
import pytest

from rlaif.judging import fit_rubric_weights
from rlaif.judging.rubric_weights import hinge_loss

# Two prompts with an ideal, an acceptable and an unacceptable response each. Propositions: keeps
# to the principle (helps), says something rude (hurts), mentions the weather (means nothing).
FEATURES = [
    [0.9, 0.1, 0.5],
    [0.6, 0.2, 0.9],
    [0.2, 0.9, 0.5],
    [0.8, 0.0, 0.1],
    [0.5, 0.1, 0.4],
    [0.1, 0.8, 0.1],
]
RANKS = [0, 1, 2, 0, 1, 2]
PROMPTS = ["p", "p", "p", "q", "q", "q"]


def test_the_hinge_of_no_weights_is_the_margin() -> None:
    assert hinge_loss([0, 0, 0], FEATURES, RANKS, PROMPTS) == 1.0
    assert hinge_loss([0, 0, 0], FEATURES, RANKS, PROMPTS, margin=0.5) == 0.5


def test_the_hinge_worked_by_hand() -> None:
    # w = (2, −1, 0): scores p 1.7, 1.0, −0.5; q 1.6, 0.9, −0.6
    # gaps p 0.7, 2.2, 1.5; q 0.7, 2.2, 1.5 → max(0, 1 − gap) = 0.3, 0, 0 each → mean 0.1
    assert hinge_loss([2.0, -1.0, 0.0], FEATURES, RANKS, PROMPTS) == pytest.approx(0.1)


def test_fitted_weights_order_every_pair_with_the_margin() -> None:
    weights = fit_rubric_weights(FEATURES, RANKS, PROMPTS, steps=2000, decay=0.0)
    assert hinge_loss(weights, FEATURES, RANKS, PROMPTS) < 0.02
    helps, hurts, _ = weights
    assert helps > 0 > hurts


def test_one_step_is_adams_worked_by_hand() -> None:
    # One pair, gap 0.5, short of the margin: slope −0.5. Adam's first step is rate·sign = 0.01.
    weights = fit_rubric_weights([[1.0], [0.5]], [0, 1], ["p", "p"], steps=1)
    assert weights == pytest.approx([0.01])
    # Second step with decay: 0.01·(1 − 0.01·0.01) + 0.01 = 0.019999
    weights = fit_rubric_weights([[1.0], [0.5]], [0, 1], ["p", "p"], steps=2)
    assert weights == pytest.approx([0.019999], abs=1e-9)


def test_pairs_that_are_ordered_already_stop_moving_the_weights() -> None:
    weights = fit_rubric_weights([[1.0], [0.0]], [0, 1], ["p", "p"], margin=0.1, decay=0.0)
    assert 0.1 <= weights[0] < 0.3


def test_responses_to_different_prompts_are_not_compared() -> None:
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_rubric_weights([[1.0], [0.0]], [0, 1], ["p", "q"])
    with pytest.raises(ValueError, match="same responses"):
        fit_rubric_weights([[1.0]], [0, 1], ["p", "p"])


def test_it_gives_the_same_weights_every_time() -> None:
    once = fit_rubric_weights(FEATURES, RANKS, PROMPTS)
    assert np.array_equal(once, fit_rubric_weights(FEATURES, RANKS, PROMPTS))
