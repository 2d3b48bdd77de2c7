"""Agreement with gold and among judges: accuracy, Cohen's κ, Krippendorff's α.

- A gold tie has no right answer to be found, so accuracy is over decided gold labels. A judge's tie
  there counts ½, which is what breaking it at random would give. Abstentions are left out of
  accuracy and said beside it (``answered``).
- How often the judge ties where gold ties is another figure.

The interval of a share is the wider, at either end, of two: Wilson, right for independent pairs and
few of them; the bootstrap over prompts, right for pairs that share prompts and many prompts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlaif.auditing.gold import Outcome
from rlaif.auditing.statistics.figure import Numbers, bootstrap_figure, divide, mean_of
from rlaif.errors import InputError
from rlaif.evaluation.intervals import Figure, wilson
from rlaif.records import Choice
from rlaif.records.plain import Plain

CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Accuracy(Plain):
    """How often a judge agrees with decided gold."""

    _derived = ("against_chance",)

    figure: Figure | None
    """With the wider of both intervals; None when nothing could be compared."""

    wilson: tuple[float, float] | None
    bootstrap: tuple[float, float] | None
    """None when the pairs share a single prompt."""

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


def measure_accuracy(outcomes: Sequence[Outcome], *, seed: int) -> Accuracy:
    """Compare preferences with decided gold labels."""
    decided = sum(outcome.gold is not Choice.TIE for outcome in outcomes)
    counted = [(o.cluster, o.credit) for o in outcomes if o.credit is not None]
    clusters, credits = [c for c, _ in counted], [credit for _, credit in counted]
    return _share(clusters, credits, decided=decided, seed=seed)


def measure_longer(outcomes: Sequence[Outcome], *, seed: int) -> Accuracy:
    """Return the accuracy of always picking the longer response; equal lengths count ½."""
    decided = [outcome for outcome in outcomes if outcome.gold is not Choice.TIE]
    credits = [_longer_credit(outcome) for outcome in decided]
    return _share([o.cluster for o in decided], credits, decided=len(decided), seed=seed)


def measure_tie_agreement(outcomes: Sequence[Outcome], *, seed: int) -> Figure | None:
    """Return how often the judge ties where gold ties, of those it has a preference on."""
    tied = [o for o in outcomes if o.gold is Choice.TIE and o.choice is not Choice.ABSTAIN]
    return share_choosing(Choice.TIE, tied, seed=seed)


def share_choosing(choice: Choice, outcomes: Sequence[Outcome], *, seed: int) -> Figure | None:
    """Return how often the judge's choice is this one; None without outcomes."""
    chosen = [float(outcome.choice is choice) for outcome in outcomes]
    return measure_share([outcome.cluster for outcome in outcomes], chosen, seed=seed)


def measure_share(clusters: Sequence[str], values: Sequence[float], *, seed: int) -> Figure | None:
    """Return the mean of values in [0, 1] with the wider of both intervals; None without any."""
    return _share(clusters, values, decided=len(values), seed=seed).figure


def _share(
    clusters: Sequence[str], credits: Sequence[float], *, decided: int, seed: int
) -> Accuracy:
    drawn = bootstrap_figure(mean_of(credits), clusters, seed=seed) if credits else None
    if drawn is None:
        return Accuracy(None, None, None, decided, 0)
    low, high = wilson(math.fsum(credits), len(credits))
    bootstrap = None
    widest = (low, high)
    if drawn.low is not None and drawn.high is not None:
        bootstrap = (drawn.low, drawn.high)
        widest = (min(low, drawn.low), max(high, drawn.high))
    figure = Figure(drawn.value, *widest, len(credits), "widest" if bootstrap else "wilson")
    return Accuracy(figure, (low, high), bootstrap, decided, len(credits))


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
