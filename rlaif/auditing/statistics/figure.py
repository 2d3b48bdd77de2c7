"""A figure with its interval: the bootstrap over prompts that all statistics share.

Pairs that show the same prompt depend on each other, so prompts are drawn with replacement, not
pairs (a cluster bootstrap). A draw is a row of weights, how often each item was drawn; a statistic
maps rows of weights to values. Shape suffixes: B resamples, N items.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from rlaif.evaluation.intervals import RESAMPLES, Figure, percentiles, resample

Numbers = npt.NDArray[np.float64]
Statistic = Callable[[Numbers], Numbers]
"""From weights_BN to values_B; NaN where a draw leaves nothing to compute."""

_FEWEST_DEFINED = 0.9
"""A statistic that more than one draw in ten leaves undefined gets no interval."""


def bootstrap_figure(
    statistic: Statistic, clusters: Sequence[str], *, seed: int, resamples: int = RESAMPLES
) -> Figure | None:
    """Return a statistic over all items with its interval over clusters.

    None where it is not defined on the items themselves. Without interval (``method`` none) where
    there is one cluster, or too many draws leave it undefined.

    Args:
        statistic: See `Statistic`. Weights of 1 for every item give the value itself.
        clusters: The cluster of each item, N of them.
        seed: Of the draws, which also depend on the names of the clusters.
        resamples: How many draws.
    """
    n = len(clusters)
    if n == 0:
        return None
    value = float(statistic(np.ones((1, n)))[0])
    if not math.isfinite(value):
        return None
    names, of_item_N = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
    if len(names) < 2:
        return Figure(value, None, None, n, "none")
    draws = []
    for places in resample([str(name) for name in names], seed=seed, resamples=resamples):
        rows = np.arange(len(places))[:, None]
        counts = np.zeros((len(places), len(names)))
        np.add.at(counts, (rows, places), 1.0)
        draws.append(statistic(counts[:, of_item_N]))
    values_B = np.concatenate(draws)
    defined = values_B[np.isfinite(values_B)]
    if len(defined) < _FEWEST_DEFINED * len(values_B):
        return Figure(value, None, None, n, "none")
    low, high = percentiles(defined)
    return Figure(value, low, high, n, "bootstrap")


def mean_of(values: Sequence[float] | Numbers) -> Statistic:
    """Return the statistic that is the mean of values, one per item."""
    values_N = np.asarray(values, dtype=np.float64)

    def statistic(weights_BN: Numbers) -> Numbers:
        return divide(weights_BN @ values_N, weights_BN.sum(axis=1))

    return statistic


def divide(above: Numbers, below: Numbers) -> Numbers:
    """Divide element by element; NaN where the divisor is 0."""
    out: Numbers = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=out, where=below != 0.0)
    return out
