"""GDPO, geometric-averaged DPO: the margin is scaled by how sure the label is.

    L = −log σ(β (2p−1) h)

Source: Furuta et al. 2024, "Geometric-Averaged Preference Optimization for Soft Preference Labels"
(arXiv 2409.06691): the two policies in DPO are replaced by p-weighted geometric means, which turns
h into (2p−1) h.
Our deviation: none. Against soft DPO: no finite optimum, but the gradient fades with 2p−1, so a
doubtful pair moves the policy less instead of pulling it to a small margin.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def gdpo_loss(h_B: Tensor, p_B: Tensor, *, beta: float) -> Tensor:
    """Return the loss per pair; at p = ½ it is the constant log 2.

    Args:
        h_B: See `rlaif.training.losses.ratio`.
        p_B: P(chosen is better), in [0, 1].
        beta: As in DPO.
    """
    return -logsigmoid(beta * (2.0 * p_B - 1.0) * h_B)
