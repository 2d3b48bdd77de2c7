"""Fitting the weights of a rubric to responses whose order of quality is known.

Rule-based rewards (Mu et al. 2024, arXiv 2411.01111): responses of known classes (ideal,
acceptable, unacceptable, …) are written on purpose; any of a better class must score above any of a
worse one to the same prompt. The weights minimise the hinge

    mean over pairs of  max(0, margin + s_worse − s_better),      s = Σ w·φ

by AdamW, as there. Deviation: no reward model's score is added to s, and weights start at 0.

Shapes: N responses, K propositions, M pairs.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


def fit_rubric_weights(
    features_NK: npt.ArrayLike,
    ranks: Sequence[int],
    prompts: Sequence[str],
    *,
    margin: float = 1.0,
    rate: float = 0.01,
    steps: int = 1000,
    decay: float = 0.01,
) -> Floats:
    """Return the weight of each proposition, of either sign.

    Args:
        features_NK: φ of every response and proposition, in [0, 1].
        ranks: Class of every response; smaller is better.
        prompts: Id of the prompt of every response; only those of one prompt are compared.
        margin: By how much a better response should score above a worse one, ≥ 0.
        rate: Learning rate of AdamW.
        steps: Of full-batch AdamW.
        decay: Weight decay of AdamW.

    Raises:
        ValueError: Numbers of responses differ, or no prompt has two classes.
    """
    phi_NK = np.asarray(features_NK, dtype=np.float64)
    if phi_NK.ndim != 2 or not len(phi_NK) == len(ranks) == len(prompts):
        raise ValueError("features, ranks and prompts must speak about the same responses")
    better_M, worse_M = _ordered_pairs(ranks, prompts)
    gap_MK = phi_NK[better_M] - phi_NK[worse_M]
    weights_K = np.zeros(phi_NK.shape[1])
    mean_K, square_K = np.zeros_like(weights_K), np.zeros_like(weights_K)
    for step in range(1, steps + 1):
        short_M = gap_MK @ weights_K < margin
        slope_K = -(gap_MK * short_M[:, None]).mean(axis=0)
        mean_K = _BETA1 * mean_K + (1 - _BETA1) * slope_K
        square_K = _BETA2 * square_K + (1 - _BETA2) * slope_K**2
        first_K = mean_K / (1 - _BETA1**step)
        second_K = square_K / (1 - _BETA2**step)
        weights_K = weights_K * (1 - rate * decay)
        weights_K = weights_K - rate * first_K / (np.sqrt(second_K) + _EPS)
    return weights_K


def _ordered_pairs(
    ranks: Sequence[int], prompts: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the better and the worse response of every pair that has both."""
    pairs = [
        (better, worse)
        for better in range(len(ranks))
        for worse in range(len(ranks))
        if ranks[better] < ranks[worse] and prompts[better] == prompts[worse]
    ]
    if not pairs:
        raise ValueError("no prompt has responses of two classes, so there is nothing to fit")
    indices = np.array(pairs, dtype=np.int64)
    return indices[:, 0], indices[:, 1]
