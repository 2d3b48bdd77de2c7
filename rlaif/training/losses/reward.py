"""Reward-model loss: soft Bradley–Terry on the difference of two scores.

    L = −p log σ(d) − (1−p) log σ(−d) + c (s_c + s_r)²,    d = s_c − s_r − m

Source: the soft cross-entropy of Constitutional AI (arXiv 2212.08073) and RLAIF (2309.00267);
margin m: Llama 2 (2307.09288), eq. 2; centring c: Eisenstein et al. 2023 (2312.09244).
Our deviation: with a margin, −log σ(d) + (1−p) d keeps the soft label around the shifted
difference. Scores are only defined up to a constant per prompt; centring pins it near 0.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def soft_reward_loss(
    chosen_B: Tensor,
    rejected_B: Tensor,
    p_B: Tensor,
    *,
    margin_B: Tensor | float = 0.0,
    centring: float = 0.0,
) -> Tensor:
    """Return the loss per pair.

    Args:
        chosen_B: Scores of the chosen responses, any real number.
        rejected_B: Scores of the rejected responses.
        p_B: P(chosen is better), in [0, 1].
        margin_B: By how much the chosen score should exceed the rejected one, ≥ 0.
        centring: Weight c ≥ 0 of the pull of s_c + s_r to 0; 0.01 is usual.
    """
    d_B = chosen_B - rejected_B - margin_B
    losses_B = -logsigmoid(d_B) + (1.0 - p_B) * d_B
    if centring:
        losses_B = losses_B + centring * (chosen_B + rejected_B) ** 2
    return losses_B
