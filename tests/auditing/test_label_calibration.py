"""Calibrations of the exported label help on prompts they have not seen, or are refused."""

import math

import numpy as np
import pytest

from rlaif.auditing.statistics.label_calibration import Label, Trial, try_calibration
from rlaif.judging import Clamp, sigmoid
from rlaif.judging.calibration import fit_labels, scaling


def labels_of(
    values: list[float], right: list[bool], *, clamp: float = 0.0, each: int = 1
) -> list[Label]:
    """Labels for which the first response is better where they are right to prefer it."""
    exported = [Clamp(clamp).apply(value) for value in values]
    return [
        Label(str(at // each), value, shown, ok is (value > 0.5))
        for at, (value, shown, ok) in enumerate(zip(values, exported, right, strict=True))
    ]


def pooled(count: int, voices: int, seed: int, *, prompts: int | None = None) -> list[Label]:
    """Labels that are the mean of so many calibrated opinions, independent given gold."""
    random = np.random.default_rng(seed)
    first = random.random(count) < 0.5
    logit = np.where(first, 0.5, -0.5)[:, None] + random.normal(size=(count, voices))
    label = (1 / (1 + np.exp(-logit))).mean(axis=1)
    each = count // (prompts or count)
    return [
        Label(str(at // each), float(p), float(p), bool(y))
        for at, (p, y) in enumerate(zip(label, first, strict=True))
    ]


def plain_nll(labels: list[Label], trial: Trial | None) -> float:
    losses = []
    for label in labels:
        p = label.before_clamp
        for transform in scaling(trial.t, trial.soften) if trial else ():
            p = transform.apply(p)
        losses.append(-math.log(p if label.first else 1.0 - p))
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize("voices", [4, 16])
def test_the_pool_of_calibrated_opinions_is_not_sure_enough_and_gets_a_sharper_label(
    voices: int,
) -> None:
    trial = try_calibration(pooled(300, voices, 1, prompts=100), lambda p: p, seed=0)
    assert isinstance(trial, Trial)
    assert trial.helps
    assert trial.t < 0.6  # opinions that are calibrated one by one would keep T = 1
    assert trial.ece_after.value < trial.ece_before.value
    assert trial.brier_after.value < trial.brier_before.value
    unseen = pooled(4000, voices, 2)
    assert plain_nll(unseen, trial) < plain_nll(unseen, None)


def test_calibrated_labels_are_hardly_ever_calibrated_again() -> None:
    kept = [
        isinstance(trial, Trial) and trial.helps
        for trial in (try_calibration(pooled(100, 1, at), lambda p: p, seed=at) for at in range(40))
    ]
    assert sum(kept) <= 3


def test_a_kept_calibration_helps_labels_it_has_not_seen() -> None:
    unseen = pooled(4000, 4, 99)
    for at in range(20):
        trial = try_calibration(pooled(100, 4, at), lambda p: p, seed=at)
        assert isinstance(trial, Trial)
        if trial.helps:
            assert plain_nll(unseen, trial) < plain_nll(unseen, None)


def test_labels_in_words_get_the_probability_that_they_are_right() -> None:
    # 160 sure labels, right in 3 of 4, and 40 ties.
    values = [1.0 if at % 2 else 0.0 for at in range(160)] + [0.5] * 40
    right = [at % 8 < 6 for at in range(160)] + [at % 2 == 0 for at in range(40)]
    trial = try_calibration(labels_of(values, right), lambda p: p, seed=0)
    assert isinstance(trial, Trial)
    assert trial.helps
    made = []
    for value in (0.0, 0.5, 1.0):
        p = value
        for transform in scaling(trial.t, trial.soften):
            p = transform.apply(p)
        made.append(p)
    assert made == pytest.approx([0.25, 0.5, 0.75], abs=1e-6)


def test_levels_with_and_without_certainty_are_fitted_together() -> None:
    # Always sure: right in 9 of 10. In between at .75: right in 7 of 10.
    fitted = fit_labels(
        [1.0] * 100 + [0.75] * 100,
        [at % 10 < 9 for at in range(100)] + [at % 10 < 7 for at in range(100)],
    )
    assert fitted is not None
    made = []
    for value in (1.0, 0.75):
        for transform in scaling(*fitted):
            value = transform.apply(value)
        made.append(value)
    assert made == pytest.approx([0.9, 0.7], abs=0.05)


def test_a_clamp_that_decides_every_label_leaves_nothing_to_calibrate() -> None:
    random = np.random.default_rng(3)
    values = [float(sigmoid(x)) for x in random.normal(0, 8, 200)]
    right = [random.random() < 0.9 for _ in values]
    labels = labels_of(values, right, clamp=0.4)
    trial = try_calibration(labels, Clamp(0.4).apply, seed=0)
    assert isinstance(trial, Trial)
    assert not trial.helps
    assert "→" in str(trial)
    free = try_calibration(labels_of(values, right), lambda p: p, seed=0)
    assert isinstance(free, Trial)
    assert free.helps


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (labels_of([0.9] * 39, [True] * 39), "39 labels"),
        (labels_of([0.9] * 80, [at % 5 > 0 for at in range(80)], each=8), "10 prompts"),
        (labels_of([0.9] * 80, [at % 2 == 0 for at in range(80)]), "towards gold"),
        (labels_of([0.9] * 80, [True] * 80), "towards gold"),
        (labels_of([0.5] * 80, [True] * 80), "towards gold"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_a_sentence(labels: list[Label], why: str) -> None:
    tried = try_calibration(labels, lambda p: p, seed=0)
    assert isinstance(tried, str)
    assert why in tried


def test_gold_that_is_turned_round_gives_the_same_calibration() -> None:
    labels = pooled(100, 4, 5)
    turned = [
        Label(one.cluster, 1.0 - one.before_clamp, 1.0 - one.exported, not one.first)
        for one in labels
    ]
    one, other = (try_calibration(some, lambda p: p, seed=0) for some in (labels, turned))
    assert isinstance(one, Trial)
    assert isinstance(other, Trial)
    assert one.t == pytest.approx(other.t)
    assert one.nll_change.value == pytest.approx(other.nll_change.value)
