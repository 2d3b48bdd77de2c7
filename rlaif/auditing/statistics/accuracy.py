"""Agreement with gold and among judges: accuracy, Cohen's κ, Krippendorff's α.

- A gold tie has no right answer to be found, so accuracy is over decided gold labels. A judge's tie
  there counts ½, which is what breaking it at random would give. Abstentions are left out of
  accuracy and said beside it (``answered``).
- How often the judge ties where gold ties is another figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlaif.auditing.gold import Outcome
from rlaif.errors import InputError
from rlaif.evaluation.intervals import Figure, Numbers, bootstrap_figure, divide, share_figure
from rlaif.records import Choice
from rlaif.records.plain import Plain

CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Accuracy(Plain):
    """How often a judge agrees with decided gold."""

    _derived = ("against_chance",)

    figure: Figure | None
    """None when nothing could be compared."""

    decided: int
    """Pairs whose gold label is not a tie."""

    answered: int
    """Those of them on which the judge has a preference, ties included."""

    @property
    def against_chance(self) -> str:
        """``above chance``, ``below chance``, or ``not distinguishable from chance``."""
        if self.figure is None:
            return "not measured"
        low, high = self.figure.low, self.figure.high
        if low is not None and low > CHANCE:
            return "above chance"
        if high is not None and high < CHANCE:
            return "below chance"
        return "not distinguishable from chance"


def measure_accuracy(outcomes: Sequence[Outcome]) -> Accuracy:
    """Compare preferences with decided gold labels."""
    decided = sum(outcome.gold is not Choice.TIE for outcome in outcomes)
    counted = [(o.cluster, o.credit) for o in outcomes if o.credit is not None]
    figure = share_figure([credit for _, credit in counted], [cluster for cluster, _ in counted])
    return Accuracy(figure, decided, len(counted))


def measure_longer(outcomes: Sequence[Outcome]) -> Accuracy:
    """Return the accuracy of always picking the longer response; equal lengths count ½."""
    decided = [outcome for outcome in outcomes if outcome.gold is not Choice.TIE]
    credits = [_longer_credit(outcome) for outcome in decided]
    figure = share_figure(credits, [outcome.cluster for outcome in decided])
    return Accuracy(figure, len(decided), len(decided))


def measure_tie_agreement(outcomes: Sequence[Outcome]) -> Figure | None:
    """Return how often the judge ties where gold ties, of those it has a preference on."""
    tied = [o for o in outcomes if o.gold is Choice.TIE and o.choice is not Choice.ABSTAIN]
    return share_choosing(Choice.TIE, tied)


def share_choosing(choice: Choice, outcomes: Sequence[Outcome]) -> Figure | None:
    """Return how often the judge's choice is this one; None without outcomes."""
    chosen = [float(outcome.choice is choice) for outcome in outcomes]
    return share_figure(chosen, [outcome.cluster for outcome in outcomes])


def _longer_credit(outcome: Outcome) -> float:
    first, second = outcome.lengths
    if first == second:
        return 0.5
    return 1.0 if (first > second) is (outcome.gold is Choice.A) else 0.0


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
