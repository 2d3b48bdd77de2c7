"""Agreement beyond chance: Cohen's κ with gold, Krippendorff's α among the members of a panel."""

from collections.abc import Mapping, Sequence

import numpy as np

from rlaif.auditing.outcome import Outcome
from rlaif.auditing.statistics.figure import Numbers, bootstrap_figure, divide
from rlaif.errors import InputError
from rlaif.evaluation.intervals import Figure
from rlaif.records import Choice

_CLASSES = (Choice.A, Choice.B, Choice.TIE)
_RESAMPLES = 500
"""Krippendorff's α has no closed form over weights: fewer draws, as each is a call."""


def measure_kappa(outcomes: Sequence[Outcome], *, seed: int) -> Figure | None:
    """Return Cohen's κ = (p_o − p_e)/(1 − p_e) of judge and gold over a, b and tie.

    Abstentions are left out. In [−1, 1], 0 being the agreement of two that answer independently
    with the shares of labels that they have; undefined where both always say the same one thing.
    """
    spoken = [outcome for outcome in outcomes if outcome.choice is not Choice.ABSTAIN]
    gold = _one_hot([outcome.gold for outcome in spoken])
    judge = _one_hot([outcome.choice for outcome in spoken])
    agree = (gold * judge).sum(axis=1)

    def statistic(weights_BN: Numbers) -> Numbers:
        total = weights_BN.sum(axis=1)
        observed = divide(weights_BN @ agree, total)
        shares = divide(weights_BN @ gold, total[:, None]) * divide(
            weights_BN @ judge, total[:, None]
        )
        expected = shares.sum(axis=1)
        return divide(observed - expected, 1.0 - expected)

    return bootstrap_figure(statistic, [outcome.cluster for outcome in spoken], seed=seed)


def measure_alpha(panel: Mapping[str, Sequence[Outcome]], *, seed: int) -> Figure | None:
    """Return Krippendorff's nominal α = 1 − D_o/D_e among judges over a, b and tie.

    Args:
        panel: Judge name to outcomes, all over the same pairs in the same order. An abstention is
            a missing value; pairs with fewer than two values do not count.
        seed: Of the draws.

    Returns:
        None with fewer than two judges, or where no two values differ at all.

    Raises:
        InputError: The ``krippendorff`` library is not installed.
    """
    if len(panel) < 2:
        return None
    try:
        import krippendorff
    except ImportError as problem:
        raise InputError(
            "agreement of a panel needs the krippendorff library",
            hint="pip install 'constitutional-rlaif[audit]'",
        ) from problem
    ratings = np.array([[_code(one.choice) for one in outcomes] for outcomes in panel.values()])
    clusters = [outcome.cluster for outcome in next(iter(panel.values()))]
    paired = (~np.isnan(ratings)).sum(axis=0) >= 2
    ratings = ratings[:, paired]
    clusters = [cluster for cluster, kept in zip(clusters, paired, strict=True) if kept]

    def alpha(weights_N: Numbers) -> float:
        drawn = np.repeat(ratings, weights_N.astype(int), axis=1)
        if len(np.unique(drawn[~np.isnan(drawn)])) < 2:
            return float("nan")
        return float(krippendorff.alpha(drawn, level_of_measurement="nominal"))

    def statistic(weights_BN: Numbers) -> Numbers:
        return np.array([alpha(weights_N) for weights_N in weights_BN])

    return bootstrap_figure(statistic, clusters, seed=seed, resamples=_RESAMPLES)


def _one_hot(choices: Sequence[Choice]) -> Numbers:
    return np.array([[float(choice is one) for one in _CLASSES] for choice in choices]).reshape(
        len(choices), len(_CLASSES)
    )


def _code(choice: Choice) -> float:
    return float("nan") if choice is Choice.ABSTAIN else float(_CLASSES.index(choice))
