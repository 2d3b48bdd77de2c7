"""The two losses of PPO, per token (Schulman et al. 2017, 1707.06347).

Both return one loss per token, unreduced: the caller gives each token its share in the *whole*
minibatch, over all micro-batches and processes, so that the gradient does not depend on how a
minibatch was split.

Shapes: N response tokens, flat.
"""

import torch
from torch import Tensor

_LARGEST_LOG_RATIO = 20.0
"""Keeps exp finite; a ratio of e^20 is clipped by the objective anyway."""


def compute_ratio(logprobs_N: Tensor, old_logprobs_N: Tensor) -> Tensor:
    """Return π_new / π_old, at most e^20."""
    difference_N = logprobs_N - old_logprobs_N
    return difference_N.clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO).exp()


def compute_policy_loss(
    ratio_N: Tensor,
    advantages_N: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the clipped surrogate −min(ρA, clip(ρ)A) and where clipping decided (eq. 7).

    Args:
        ratio_N: ρ = π_new / π_old, with gradient.
        advantages_N: Positive where the action did better than expected.
        clip_low: ρ below 1 − clip_low earns nothing more; in (0, 1).
        clip_high: ρ above 1 + clip_high earns nothing more; > 0.
        dual_clip: For A < 0 the loss is at most dual_clip·|A| (Ye et al. 2020, 1912.09729, eq. 5),
            which bounds the gradient when ρ explodes; > 1, usually 3. None: off.

    Returns:
        Loss per token, and a boolean per token: the gradient was cut off here.
    """
    plain_N = -ratio_N * advantages_N
    clipped_N = -ratio_N.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages_N
    loss_N = torch.maximum(plain_N, clipped_N)
    was_clipped_N = clipped_N > plain_N
    if dual_clip is not None:
        bound_N = -dual_clip * advantages_N
        over_N = (advantages_N < 0) & (loss_N > bound_N)
        loss_N = torch.where(over_N, bound_N, loss_N)
        was_clipped_N = was_clipped_N | over_N
    return loss_N, was_clipped_N


def compute_value_loss(
    values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, *, clip: float | None = 0.2
) -> tuple[Tensor, Tensor]:
    """Return ½ max((V − R)², (V_old + clip(V − V_old) − R)²) and where clipping decided.

    Args:
        values_N: Predictions, with gradient.
        old_values_N: Predictions at rollout time.
        returns_N: Targets, in reward units.
        clip: How far a prediction may move from its old value in one rollout, in reward units;
            None: plain squared error.

    Returns:
        Loss per token, and a boolean per token: the gradient was cut off here.
    """
    plain_N = (values_N - returns_N).square()
    if clip is None:
        return 0.5 * plain_N, torch.zeros_like(plain_N, dtype=torch.bool)
    moved_N = old_values_N + (values_N - old_values_N).clamp(-clip, clip)
    clipped_N = (moved_N - returns_N).square()
    return 0.5 * torch.maximum(plain_N, clipped_N), clipped_N > plain_N
