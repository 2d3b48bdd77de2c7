"""KL divergence between policy and reference: estimators per token, and the coefficient's control.

All values are natural logarithms (nats). With samples from the policy π and a reference ρ:
k1 = log π − log ρ is unbiased and may be negative; k2 = k1²/2 and k3 = e^(−k1) − 1 + k1 are never
negative (Schulman 2020, "Approximating KL divergence"; k3 is unbiased too). The reward uses k1:
as a *reward* its expected gradient is that of the KL, which k2 and k3 do not have.

Shapes: any; element-wise.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_LARGEST_EXPONENT = 20.0
"""exp(20) ≈ 5e8: beyond it the estimate says no more than "far away", and exp would overflow."""


def compute_k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return log π − log ρ: unbiased, of either sign."""
    return logprobs - ref_logprobs


def compute_k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return (log π − log ρ)² / 2: biased, ≥ 0, low variance."""
    return (logprobs - ref_logprobs).square() / 2


def compute_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Return ρ/π − 1 − log(ρ/π): unbiased, ≥ 0."""
    log_ratio = (ref_logprobs - logprobs).clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return torch.expm1(log_ratio) - log_ratio


@dataclass(frozen=True, slots=True)
class KlControl:
    """The coefficient β of the KL penalty, fixed or steered towards a target.

    Adaptive control is Ziegler et al. 2019 (1909.08593) section 2.2: proportional in log-space,
    with the error clipped to ±0.2.
    """

    beta: float
    """Reward lost per nat; ≥ 0."""

    target: float | None = None
    """Nats per *sequence* (the sum over a response's tokens, averaged over responses), not per
    token; None keeps ``beta`` fixed."""

    horizon: int = 10_000
    """Responses over which an error of 0.2 changes ``beta`` by about a fifth."""

    least: float = 0.0
    """``beta`` is never lowered beyond this. A policy that has just begun is far below any target;
    without a bound ``beta`` sinks all that time, and is missing when the KL arrives (our addition,
    as in controllers with anti-windup)."""

    def after(self, kl: float, responses: int) -> "KlControl":
        """Return the control after ``responses`` were seen with a mean of ``kl`` nats each."""
        if self.target is None:
            return self
        error = min(max(kl / self.target - 1.0, -0.2), 0.2)
        beta = self.beta * (1.0 + error * responses / self.horizon)
        return replace(self, beta=max(beta, self.least))
