"""Robust DPO: an unbiased loss when a known share of all labels is flipped.

    L = q · (−log σ(βh)) + (1−q) · (−log σ(−βh)),   q = (p − ε) / (1 − 2ε)

Source: Chowdhury et al. 2024, "Provably Robust DPO" (arXiv 2403.00409): at p = 1 this is
[(1−ε) l(h) − ε l(−h)] / (1−2ε), whose expectation over flips with probability ε is the clean loss.
Our deviation: the label may be soft. p R(h) + (1−p) R(−h), with R the robust loss, collects into
the line above. q leaves [0, 1] for p near 0 or 1, as in the paper: the loss is then unbounded
below, so keep ε below the true noise rather than above it.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def robust_loss(h_B: Tensor, p_B: Tensor, *, beta: float, noise: float) -> Tensor:
    """Return the loss per pair.

    Args:
        h_B: See `rlaif.training.losses.ratio`.
        p_B: P(chosen is better) as the judge says, in [0, 1].
        beta: As in DPO.
        noise: ε, the share of labels believed to be flipped, in [0, ½).
    """
    q_B = (p_B - noise) / (1.0 - 2.0 * noise)
    x_B = beta * h_B
    return -q_B * logsigmoid(x_B) - (1.0 - q_B) * logsigmoid(-x_B)
