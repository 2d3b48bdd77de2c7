"""Generalised advantage estimation over response tokens (Schulman et al. 2016, 1506.02438).

δ_t = r_t + γ V_{t+1} − V_t,  A_t = δ_t + γλ A_{t+1},  R_t = A_t + V_t   (eq. 11–12, 16)

The state after the last action has value 0. Positions outside the mask are no time steps: the
scan carries the next value and advantage across them, so padding at either end, or text that the
policy did not write in the middle, changes nothing.

Shapes: B responses, T token positions.
"""

import torch
from torch import Tensor


def compute_gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns, zero outside the mask.

    Args:
        rewards_BT: Reward for the action at each position; read only inside the mask.
        values_BT: Value of the state *before* each action; read only inside the mask.
        mask_BT: True at the policy's actions.
        gamma: Discount per token, in [0, 1]. 1 for text: a late word counts as much as an early.
        lam: λ in [0, 1]; 1 gives the Monte Carlo return, 0 one-step bootstrapping.

    Returns:
        Advantages (not whitened) and the value targets R = A + V.
    """
    rewards_BT = rewards_BT.masked_fill(~mask_BT, 0.0)
    values_BT = values_BT.masked_fill(~mask_BT, 0.0)
    next_value_B = torch.zeros_like(values_BT[:, 0])
    next_advantage_B = torch.zeros_like(next_value_B)
    advantages: list[Tensor] = []
    for t in range(values_BT.shape[1] - 1, -1, -1):
        here_B = mask_BT[:, t]
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        advantage_B = delta_B + gamma * lam * next_advantage_B
        advantages.append(torch.where(here_B, advantage_B, torch.zeros_like(advantage_B)))
        next_advantage_B = torch.where(here_B, advantage_B, next_advantage_B)
        next_value_B = torch.where(here_B, values_BT[:, t], next_value_B)
    advantages_BT = torch.stack(advantages[::-1], dim=1)
    return advantages_BT, (advantages_BT + values_BT).masked_fill(~mask_BT, 0.0)
