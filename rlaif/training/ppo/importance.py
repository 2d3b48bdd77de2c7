"""Importance weights: tokens drawn by one distribution, learned from under another.

w_t = clip(π_train(a_t) / π_drawn(a_t), low, high)

An engine with other kernels, or in another precision, draws from π_drawn; the objective is an
expectation under π_train. The truncated ratio (Ionides 2008; for language models Yao et al. 2025,
"Your efficient RL framework secretly brings you off-policy RL training") multiplies each token's
policy loss. It is a constant: no gradient runs through it.

Shapes: B responses, T token positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_LARGEST_LOG_RATIO = 20.0


def compute_importance(
    logprobs_BT: Tensor, drawn: Sequence[Sequence[float]], bounds: tuple[float, float]
) -> Tensor:
    """Return the weight of every token, 1 where it is not known how it was drawn.

    Args:
        logprobs_BT: From the training forward pass, in nats.
        drawn: Log-probabilities under the distribution each token was drawn from, in order; an
            empty row is not known.
        bounds: Lowest and highest weight, 0 ≤ low ≤ 1 ≤ high.
    """
    weights_BT = torch.ones_like(logprobs_BT)
    for row, known in enumerate(drawn):
        if known:
            gap_T = logprobs_BT[row, : len(known)] - torch.tensor(known, dtype=logprobs_BT.dtype)
            gap_T = gap_T.clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
            weights_BT[row, : len(known)] = gap_T.exp().clamp(*bounds)
    return weights_BT
