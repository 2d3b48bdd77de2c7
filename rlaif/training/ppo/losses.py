"""PPO: its two losses (Schulman et al. 2017, 1707.06347), the KL penalty, importance weights.

Both losses return one loss per token, unreduced: the caller gives each token its share in the
*whole* minibatch, over all micro-batches and processes, so that the gradient does not depend on how
a minibatch was split.

Shapes: N response tokens, flat.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_LARGEST_EXPONENT = 20.0
"""exp(20) ≈ 5e8: beyond it the estimate says no more than "far away", and exp would overflow."""


def compute_k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return log π − log ρ: unbiased, of either sign.

    All values are natural logarithms (nats). With samples from the policy π and a reference ρ: k1
    = log π − log ρ is unbiased and may be negative; k2 = k1²/2 and k3 = e^(−k1) − 1 + k1 are
    never negative (Schulman 2020, "Approximating KL divergence"; k3 is unbiased too). The reward
    uses k1: as a *reward* its expected gradient is that of the KL, which k2 and k3 do not have.

    Shapes: any; element-wise.
    """
    return logprobs - ref_logprobs


def compute_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return ρ/π − 1 − log(ρ/π): unbiased, ≥ 0."""
    log_ratio = (ref_logprobs - logprobs).clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return torch.expm1(log_ratio) - log_ratio


_LARGEST_KL_ERROR = 0.2
"""Largest relative error that counts (Ziegler et al. 2019): one odd rollout moves β little."""

_RISING = 1.05
"""A KL that grows by more than this factor in a rollout approaches its target by itself."""


@dataclass(frozen=True, slots=True)
class KlControl:
    """The coefficient β of the KL penalty, fixed or steered towards a target.

    After every rollout (Ziegler et al. 2019, 1909.08593, section 2.2; their "batch"):

        e = clip(KL / target − 1, −0.2, 0.2)        β ← β · (1 + gain · e)

    How many responses a rollout has plays no part. Our addition, as in controllers with
    anti-windup: β is not lowered after a rollout whose KL is more than 5 % higher than that of the
    rollout before. A policy that has just begun is far below any target; β would sink all that
    time, and be too small when the KL arrives.
    """

    beta: float
    """Reward lost per nat; ≥ 0."""

    target: float | None = None
    """Nats per *sequence* (the sum over a response's tokens, averaged over responses), not per
    token; None keeps ``beta`` fixed."""

    gain: float = 1.0
    """``beta`` changes by at most 0.2 · gain of itself per rollout; in (0, 5). Ziegler et al. use
    0.1 (2 % per rollout) over thousands of rollouts."""

    last: float = 0.0
    """Mean KL of the rollout before."""

    def after(self, kl: float) -> "KlControl":
        """Return the control after a rollout with a mean of ``kl`` nats per response."""
        if self.target is None:
            return self
        error = min(max(kl / self.target - 1.0, -_LARGEST_KL_ERROR), _LARGEST_KL_ERROR)
        if error < 0 and kl > _RISING * self.last:
            error = 0.0
        return replace(self, beta=self.beta * (1.0 + self.gain * error), last=kl)


_LARGEST_LOG_RATIO = 20.0
"""Keeps exp finite; a ratio of e^20 is clipped by the objective anyway."""


def compute_importance(
    logprobs_BT: Tensor, drawn: Sequence[Sequence[float]], bounds: tuple[float, float]
) -> Tensor:
    """Importance weights: tokens drawn by one distribution, learned from under another.

    w_t = clip(π_train(a_t) / π_drawn(a_t), low, high)

    An engine with other kernels, or in another precision, draws from π_drawn; the objective is an
    expectation under π_train. The truncated ratio (Ionides 2008; for language models Yao et al.
    2025, "Your efficient RL framework secretly brings you off-policy RL training") multiplies
    each token's policy loss. It is a constant: no gradient runs through it.

    Shapes: B responses, T token positions.

    Return the weight of every token, 1 where it is not known how it was drawn.

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
