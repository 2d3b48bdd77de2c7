import numpy as np
import pytest

from rlaif.judging import fit_rubric_weights

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


def test_fitted_weights_order_every_pair_with_the_margin() -> None:
    weights = fit_rubric_weights(FEATURES, RANKS, PROMPTS, steps=2000, decay=0.0)
    # Rows stand from best to worst, three to a prompt.
    ideal, acceptable, unacceptable = (np.array(FEATURES) @ weights).reshape(2, 3).T
    gaps = np.array([ideal - acceptable, acceptable - unacceptable, ideal - unacceptable])
    assert np.maximum(0.0, 1.0 - gaps).mean() < 0.02
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
