"""Reliability: whether a judge that says 80 % is right in 80 of 100 cases.

A preference and its opposite are one statement, so confidence is max(p, 1 − p), in [½, 1], and
correctness is whether the likelier side is the gold one (½ where p is ½). Gold ties and
abstentions do not count. ECE is over bins of equal width and without its upward bias; see `ece`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaif.auditing.gold import Outcome
from rlaif.auditing.statistics.ece import ece_figure
from rlaif.evaluation.intervals import Figure, Numbers, share_figure
from rlaif.records.plain import Plain

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Judgments of about the same confidence."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    """Ends of its interval; None for a single prompt."""


@dataclass(frozen=True, slots=True)
class Reliability(Plain):
    """How well confidence matches how often the judge is right."""

    ece: Figure
    """Debiased, in [0, 1]; 0 where the judge cannot be told from a perfectly calibrated one."""

    binned: float
    """The plain sum over the bins, which is above 0 even for a perfect judge."""

    brier: Figure
    """Mean squared distance of the preference from gold, in [0, 1]; always ½ gives 0.25."""

    bins: tuple[Bin, ...]
    """The bins that hold judgments."""


def measure_reliability(outcomes: Sequence[Outcome], *, seed: int) -> Reliability | None:
    """Measure ECE, Brier score and the bins behind them; None when nothing can be compared."""
    kept = [outcome for outcome in outcomes if outcome.credit is not None]
    return reliability_of(
        [_confidence(outcome) for outcome in kept],
        [float(outcome.credit or 0.0) for outcome in kept],
        [outcome.cluster for outcome in kept],
        seed=seed,
    )


def reliability_of(
    confidence: Sequence[float],
    correct: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int,
    bins: int = BINS,
) -> Reliability | None:
    """Measure reliability from plain numbers.

    Args:
        confidence: Probability of the likelier side, in [½, 1], one per statement.
        correct: 1 where that side is the gold one, 0 where not, ½ where both are equally likely.
        clusters: The prompt of each.
        seed: Of the draws.
        bins: How many bins of equal width.
    """
    if not clusters:
        return None
    correct_N, confidence_N = np.array(correct), np.array(confidence)
    place_N = np.minimum(((confidence_N - 0.5) * 2.0 * bins).astype(int), bins - 1)
    inside_NK = (place_N[:, None] == np.arange(bins)).astype(np.float64)
    gap_NK = inside_NK * (correct_N - confidence_N)[:, None]
    # The likelier side is gold with this probability, so p's squared error is (1 − it)².
    squared_N = (np.where(correct_N == 0.0, confidence_N, 1.0 - confidence_N)) ** 2

    brier = share_figure(squared_N.tolist(), clusters)
    assert brier is not None, "there are clusters"
    return Reliability(
        ece_figure(gap_NK, clusters, seed=seed),
        float(np.abs(gap_NK.mean(axis=0)).sum()),
        brier,
        _bins(place_N, confidence_N, correct_N, clusters, bins),
    )


def _confidence(outcome: Outcome) -> float:
    preference = outcome.judgment.preference
    assert preference is not None, "an outcome with credit has a preference"
    return max(preference, 1.0 - preference)


def _bins(
    place_N: Any, confidence_N: Numbers, correct_N: Numbers, clusters: Sequence[str], bins: int
) -> tuple[Bin, ...]:
    filled = []
    for place in range(bins):
        inside = np.flatnonzero(place_N == place).tolist()
        accuracy = share_figure(correct_N[inside].tolist(), [clusters[at] for at in inside])
        if accuracy is not None:
            filled.append(
                Bin(
                    low=0.5 + place / (2 * bins),
                    high=0.5 + (place + 1) / (2 * bins),
                    n=len(inside),
                    confidence=float(confidence_N[inside].mean()),
                    accuracy=accuracy.value,
                    accuracy_low=accuracy.low,
                    accuracy_high=accuracy.high,
                )
            )
    return tuple(filled)
