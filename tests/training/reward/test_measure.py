import math

import numpy as np
import pytest

from rlaif.training.reward.measure import ScoredPairs, measure_scores


def pairs(
    differences: list[float],
    labels: list[float],
    more_tokens: list[float] | None = None,
    prompts: list[int] | None = None,
) -> ScoredPairs:
    n = len(differences)
    return ScoredPairs(
        chosen=np.array(differences, dtype=float),
        rejected=np.zeros(n),
        labels=np.array(labels, dtype=float),
        more_tokens=np.array(more_tokens if more_tokens is not None else range(n), dtype=float),
        prompts=list(prompts if prompts is not None else range(n)),
    )


def test_accuracy_is_the_share_of_pairs_on_the_labels_side():
    # right, wrong, equal (half), and a tie in the label, which is left out: (1 + 0 + ½) / 3
    found = measure_scores(pairs([2.0, -1.0, 0.0, 5.0], [1.0, 0.9, 0.8, 0.5]))
    assert found["accuracy"]["value"] == pytest.approx(0.5)
    assert (found["pairs"], found["ties"], found["prompts"]) == (4, 1, 4)


def test_a_model_that_says_what_the_labels_say_is_calibrated():
    # σ(ln 3) = ¾ and every label is ¾
    found = measure_scores(pairs([math.log(3)] * 8, [0.75] * 8))
    assert found["calibration_error"]["value"] == pytest.approx(0.0, abs=1e-9)


def test_the_calibration_error_is_the_gap_between_confidence_and_truth():
    # confidence ¾; half of the certain labels are on its side: |½ − ¾|
    found = measure_scores(pairs([math.log(3), -math.log(3)] * 4, [1.0] * 8))
    assert found["calibration_error"]["value"] == pytest.approx(0.25)


def test_a_model_that_likes_length_is_found_out():
    found = measure_scores(pairs([1.0, 2.0, 3.0, -1.0], [1.0] * 4, more_tokens=[10, 20, 30, -10]))
    assert found["length_correlation"]["value"] == pytest.approx(1.0)
    assert found["longer_wins"]["value"] == 1.0


def test_what_cannot_be_computed_is_unknown_not_zero():
    found = measure_scores(pairs([1.0, 1.0], [0.5, 0.5], more_tokens=[3, 3]))
    assert found["accuracy"] is None
    assert found["length_correlation"] is None


def test_pairs_of_one_prompt_count_as_one_when_the_interval_is_drawn():
    right = [1.0] * 10 + [-1.0] * 10
    apart = measure_scores(pairs(right, [1.0] * 20))["accuracy"]
    together = measure_scores(pairs(right, [1.0] * 20, prompts=[0] * 10 + [1] * 10))["accuracy"]
    assert apart["value"] == together["value"] == 0.5
    assert together["high"] - together["low"] == 1.0
    assert apart["high"] - apart["low"] < 0.6


def test_intervals_are_the_same_every_time():
    values = pairs([1.0, -1.0, 2.0, 0.5], [1.0] * 4)
    assert measure_scores(values, seed=3) == measure_scores(values, seed=3)
