"""Expected calibration error without its bias, and an interval that holds it.

ECE = Σ_b |δ_b| over bins b, where δ_b is the share of judgments in b times their accuracy less
confidence (Naeini et al. 2015). Estimated as it stands, it is too high: noise in δ_b never cancels
behind the bars, so that a perfect judge shows .10 on 100 pairs. And a bootstrap repeats the noise
on top of itself: its intervals hold the truth in .52 to .83 of cases in place of .95.

Here the estimate is asked what it would be. If the true gaps were δ, one would see Σ_b |δ_b + e_b|
with noise e, which a bootstrap over prompts shows. So the ECE is taken to be the total at which the
plain estimate is the *median* of what one would see, for gaps in the proportions that were seen;
the ends of the interval are the totals at which it is the upper or the lower 2.5 % point
(inversion of a test). How gaps are spread over bins matters, because noise adds the less the larger
a gap is: it adds most when one bin holds the whole error and least when all gaps are as large as
their noise. The lower end takes the former and the upper end the latter, so the interval errs on
the wide side.
"""

import math
from collections.abc import Sequence

import numpy as np

from rlaif.evaluation.intervals import (
    CONFIDENCE,
    Figure,
    Numbers,
    draw_counts,
    student_t,
)

_HALVINGS = 12
_RESAMPLES = 1000
"""Each is looked at for every bin and halving."""

_TAIL = (1 - CONFIDENCE) / 2
_Z = 1.959964


def ece_figure(gap_NK: Numbers, clusters: Sequence[str], *, seed: int) -> Figure:
    """Return the debiased ECE with its interval; the plain one without interval for one cluster.

    Args:
        gap_NK: Correctness less confidence of each of N judgments in the column of its bin, 0 in
            the others of the K bins.
        clusters: The cluster (prompt) of each.
        seed: Of the draws.
    """
    n = len(gap_NK)
    gap_K = gap_NK.mean(axis=0)
    seen = float(np.abs(gap_K).sum())
    names, of_item_N = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
    count = len(names)
    if count < 2:
        return Figure(seen, None, None, n, "none")
    sums_GK = np.zeros((count, len(gap_K)))
    np.add.at(sums_GK, of_item_N, gap_NK - gap_K)
    wider = math.sqrt(count / (count - 1)) * student_t(count) / _Z
    draws = draw_counts([str(name) for name in names], seed=seed, resamples=_RESAMPLES)
    noise_BK = wider * np.concatenate([counts_BG @ sums_GK for counts_BG in draws]) / n
    size_K, sign_K = noise_BK.std(axis=0), np.where(gap_K < 0.0, -1.0, 1.0)
    noisy = [row for row, size in zip(np.diag(sign_K), size_K, strict=True) if size > 0.0]
    if seen == 0.0 or not noisy:
        return Figure(seen, seen, seen, n, "inversion")
    value = _invert(seen, gap_K / seen, noise_BK, 0.5)
    low = min(_invert(seen, alone_K, noise_BK, 1 - _TAIL) for alone_K in noisy)
    high = _invert(seen, sign_K * size_K / size_K.sum(), noise_BK, _TAIL)
    return Figure(value, min(low, value), max(high, value), n, "inversion")


def _invert(seen: float, shape_K: Numbers, noise_BK: Numbers, part: float) -> float:
    """The total error at which ``seen`` is this quantile of what one would see, in [0, seen + …].

    Args:
        seen: The plain estimate.
        shape_K: How the total is spread over the bins; absolute values add up to 1.
        noise_BK: What chance adds to the gaps.
        part: Which quantile.
    """

    def quantile(total: float) -> float:
        return float(np.quantile(np.abs(total * shape_K + noise_BK).sum(axis=1), part))

    low, high = 0.0, seen + float(np.abs(noise_BK).sum(axis=1).max())
    if quantile(low) >= seen:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if quantile(middle) < seen else (low, middle)
    return min(1.0, (low + high) / 2.0)
