"""Clipped logit regression: make the implied reward difference equal to the judge's log-odds.

    L = (βh − clip(logit p, −c, c))²

Source: REBEL, Gao et al. 2024 (arXiv 2404.16767), and reward distillation, Fisch et al. 2024
(arXiv 2405.19316): (βh − (r₁ − r₂))², with the reward difference taken from the judge.
Our deviation: r₁ − r₂ = logit p, the Bradley–Terry reward difference that p implies, clipped
because a judge's 0.9999 is not worth a margin of 9 nats (and p = 1 would be infinite).
"""

from torch import Tensor, logit


def regression_loss(h_B: Tensor, p_B: Tensor, *, beta: float, clip: float) -> Tensor:
    """Return the loss per pair, in squared nats.

    Args:
        h_B: See `rlaif.training.losses.ratio`.
        p_B: P(chosen is better), in [0, 1].
        beta: As in DPO.
        clip: Largest target in absolute value, > 0.
    """
    return (beta * h_B - logit(p_B).clamp(-clip, clip)) ** 2
