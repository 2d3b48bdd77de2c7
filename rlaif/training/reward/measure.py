"""What a reward model is worth: accuracy, calibration and length bias, each with an interval.

Intervals are percentile bootstraps over *prompts*, because pairs of one prompt are not independent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_DRAWS = 1000
_BINS = 10


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Pairs with the scores a model gave them; all arrays have one entry per pair."""

    chosen: Array
    rejected: Array
    labels: Array
    """P(chosen is better), in [0.5, 1]."""

    more_tokens: Array
    """Tokens of the chosen response minus tokens of the rejected one."""

    prompts: Sequence[Any]
    """Hashable; equal for pairs of the same prompt."""


def measure_scores(pairs: ScoredPairs, *, seed: int = 0) -> dict[str, Any]:
    """Return ``accuracy``, ``calibration_error``, ``length_correlation`` and counts.

    Accuracy is the share of pairs, ties in the label left out, whose chosen response has the
    higher score; equal scores count half. The calibration error (ECE, ten bins) compares σ of the
    score difference with the label: soft labels count as the share of such pairs where the model
    would be right. The length correlation is Pearson's, between differences of scores and of
    tokens; ``longer_wins`` is the share of pairs whose longer response scores higher. A value that
    cannot be computed is None.
    """
    clusters = _clusters(pairs.prompts)
    measured: dict[str, Any] = {
        "pairs": len(pairs.labels),
        "ties": int((pairs.labels == 0.5).sum()),
        "prompts": len(clusters),
    }
    measures: dict[str, Callable[[ScoredPairs, NDArray[np.int64]], float]] = {
        "accuracy": _accuracy,
        "calibration_error": _calibration_error,
        "length_correlation": _length_correlation,
        "longer_wins": _longer_wins,
    }
    draws = _draw_rows(clusters, seed)
    everything = np.arange(len(pairs.labels))
    for name, measure in measures.items():
        value = measure(pairs, everything)
        drawn = np.array([measure(pairs, rows) for rows in draws])
        drawn = drawn[np.isfinite(drawn)]
        if not np.isfinite(value) or not len(drawn):
            measured[name] = None
            continue
        low, high = np.quantile(drawn, [0.025, 0.975])
        measured[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return measured


def _clusters(prompts: Sequence[Any]) -> list[NDArray[np.int64]]:
    rows: dict[Any, list[int]] = {}
    for place, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(place)
    return [np.array(places) for places in rows.values()]


def _draw_rows(clusters: Sequence[NDArray[np.int64]], seed: int) -> list[NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    picks = random.integers(len(clusters), size=(_DRAWS, len(clusters)))
    return [np.concatenate([clusters[i] for i in pick]) for pick in picks]


def _accuracy(pairs: ScoredPairs, rows: NDArray[np.int64]) -> float:
    rows = rows[pairs.labels[rows] > 0.5]
    if not len(rows):
        return float("nan")
    return float(_side(pairs, rows).mean())


def _calibration_error(pairs: ScoredPairs, rows: NDArray[np.int64]) -> float:
    difference = pairs.chosen[rows] - pairs.rejected[rows]
    sure = 1.0 / (1.0 + np.exp(-np.abs(difference)))
    side = _side(pairs, rows)
    right = side * pairs.labels[rows] + (1 - side) * (1 - pairs.labels[rows])
    place = np.minimum(((sure - 0.5) * 2 * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(place, minlength=_BINS)
    gaps = np.abs(
        np.bincount(place, weights=right, minlength=_BINS)
        - np.bincount(place, weights=sure, minlength=_BINS)
    )
    return float(gaps.sum() / counts.sum())


def _length_correlation(pairs: ScoredPairs, rows: NDArray[np.int64]) -> float:
    scores = pairs.chosen[rows] - pairs.rejected[rows]
    tokens = pairs.more_tokens[rows]
    if scores.std() == 0 or tokens.std() == 0:
        return float("nan")
    return float(np.corrcoef(scores, tokens)[0, 1])


def _longer_wins(pairs: ScoredPairs, rows: NDArray[np.int64]) -> float:
    rows = rows[pairs.more_tokens[rows] != 0]
    if not len(rows):
        return float("nan")
    side = _side(pairs, rows)
    return float(np.where(pairs.more_tokens[rows] > 0, side, 1 - side).mean())


def _side(pairs: ScoredPairs, rows: NDArray[np.int64]) -> Array:
    """1 where chosen scores higher, 0 where lower, ½ where equal."""
    side: Array = (np.sign(pairs.chosen[rows] - pairs.rejected[rows]) + 1) / 2
    return side
