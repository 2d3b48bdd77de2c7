"""Soft DPO: the DPO loss under a label that is a probability.

    L = −p log σ(βh) − (1−p) log σ(−βh)  =  −log σ(βh) + (1−p) βh

Source: DPO, Rafailov et al. 2023 (arXiv 2305.18290), eq. 7 at p = 1; the soft form is conservative
DPO (Mitchell 2023) with ε = 1−p per pair, and the cross-entropy that Constitutional AI and RLAIF
train their preference models with (arXiv 2212.08073, 2309.00267).
Our deviation: p is one number per pair, not one constant for the whole set. The minimum lies at
the finite βh = logit p, so the policy learns the judge's distribution instead of running away.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def soft_dpo_loss(h_B: Tensor, p_B: Tensor, *, beta: float) -> Tensor:
    """Return the loss per pair; at p = ½ its gradient vanishes at h = 0.

    Args:
        h_B: See `rlaif.training.losses.ratio`.
        p_B: P(chosen is better), in [0, 1].
        beta: Strength of the KL anchor, > 0; larger keeps the policy nearer to the reference.
    """
    x_B = beta * h_B
    return -logsigmoid(x_B) + (1.0 - p_B) * x_B
