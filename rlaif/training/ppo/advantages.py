"""Generalised advantage estimation over response tokens (Schulman et al. 2016, 1506.02438).

δ_t = r_t + γ V_{t+1} − V_t,  A_t = δ_t + γλ A_{t+1},  R_t = A_t + V_t   (eq. 11–12, 16)

The state after the last action has value 0. Positions outside the mask are not time steps: the
scan carries the next value and advantage across them, so padding at either end, or text that the
policy did not write in the middle, changes nothing.

Shapes: B responses, T token positions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlaif.config.ppo import RewardSettings

AddUp = Callable[[Tensor], Tensor]
"""Adds a tensor over all processes."""

_EPSILON = 1e-8


def keep(tensor: Tensor) -> Tensor:
    """Moments: whitening over valid tokens of a whole rollout, and running statistics of scores.

    Sums go through ``add_up``, which adds over processes; alone it is the identity. So the result
    is the same however the rollout is spread.

    Add up over one process: the tensor itself.
    """
    return tensor


def whiten(
    x_BT: Tensor, mask_BT: Tensor, *, shift_mean: bool = True, add_up: AddUp = keep
) -> Tensor:
    """Return (x − μ)/√(σ² + 1e-8) with moments over the mask, zero outside it.

    Args:
        x_BT: Anything per token.
        mask_BT: True where a value counts.
        shift_mean: False keeps the mean and only scales, as is done for rewards: their sign means
            something.
        add_up: Sums over processes.
    """
    inside_BT = x_BT.masked_fill(~mask_BT, 0.0).double()
    first = add_up(torch.stack([mask_BT.sum().double(), inside_BT.sum()]))
    count, mean = first[0].clamp(min=1.0), first[1] / first[0].clamp(min=1.0)
    centred_BT = (inside_BT - mean).masked_fill(~mask_BT, 0.0)
    variance = add_up(centred_BT.square().sum()) / count
    scaled_BT = (centred_BT if shift_mean else inside_BT) / (variance + _EPSILON).sqrt()
    return scaled_BT.masked_fill(~mask_BT, 0.0).to(x_BT.dtype)


@dataclass(frozen=True, slots=True)
class RunningMoments:
    """Mean and spread of every score seen so far (Chan's parallel update)."""

    count: float = 0.0
    mean: float = 0.0
    m2: float = 0.0
    """Sum of squared distances from the mean."""

    def after(self, scores: Sequence[float], add_up: AddUp = keep) -> "RunningMoments":
        """Return the moments with ``scores`` (of all processes) counted in."""
        new = torch.tensor(scores, dtype=torch.float64)
        sums = add_up(torch.stack([torch.tensor(float(len(new))).double(), new.sum()]))
        count, total = float(sums[0]), float(sums[1])
        if count == 0:
            return self
        mean = total / count
        m2 = float(add_up((new - mean).square().sum()))
        together = self.count + count
        shift = mean - self.mean
        return RunningMoments(
            count=together,
            mean=self.mean + shift * count / together,
            m2=self.m2 + m2 + shift * shift * self.count * count / together,
        )

    @property
    def std(self) -> float:
        """Population standard deviation; 0 before two scores were seen."""
        return math.sqrt(self.m2 / self.count) if self.count > 1 else 0.0

    def standardise(self, score: float, clip: float) -> float:
        """Return the z-score cut to ±clip; 0 while every score seen is the same."""
        if self.std == 0.0:
            return 0.0
        return min(max((score - self.mean) / self.std, -clip), clip)


def shape_scores(
    scores: Sequence[float | None],
    ended: Sequence[bool],
    *,
    moments: RunningMoments,
    settings: RewardSettings,
) -> list[float | None]:
    """From one score per response to one reward per token.

    r_t = −β (log π(a_t) − log ρ(a_t)) + 1[t = last] · score   (Ziegler et al. 2019, 1909.08593,
    eq. 2, the KL term spread over the tokens that cause it). The last action is the
    end-of-sequence token where the policy stopped by itself, so stopping is what earns the score.

    Shapes: B responses, T token positions.

    Return the scores that are trained on; None stays None.

    Args:
        scores: As the scorer gave them.
        ended: Whether each response stopped by itself.
        moments: Statistics for the z-score.
        settings: Whether there is a z-score, the clip, and what a missing end costs.
    """
    clip = settings.score_clip
    shaped: list[float | None] = []
    for score, stopped in zip(scores, ended, strict=True):
        if score is None:
            shaped.append(None)
            continue
        if settings.normalise_scores:
            bounded = moments.standardise(score, clip)
        else:
            bounded = min(max(score, -clip), clip)
        shaped.append(bounded if stopped else bounded - settings.missing_end_penalty)
    return shaped


def compute_rewards(
    kl_BT: Tensor, lengths: Sequence[int], scores: Sequence[float | None], *, beta: float
) -> Tensor:
    """Return the reward of every token, zero beyond a response's length.

    Args:
        kl_BT: k1 per token, in nats; read only within the lengths.
        lengths: Response tokens, ≥ 1 each.
        scores: Shaped scores; a None adds nothing (its row is masked out of the update).
        beta: Reward lost per nat.
    """
    columns_T = torch.arange(kl_BT.shape[1], device=kl_BT.device)
    lengths_B = torch.tensor(lengths, device=kl_BT.device)
    rewards_BT = (-beta * kl_BT).masked_fill(columns_T >= lengths_B[:, None], 0.0)
    for row, (length, score) in enumerate(zip(lengths, scores, strict=True)):
        if score is not None:
            rewards_BT[row, length - 1] += score
    return rewards_BT


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
