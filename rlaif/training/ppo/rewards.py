"""From one score per response to one reward per token.

r_t = −β (log π(a_t) − log ρ(a_t)) + 1[t = last] · score   (Ziegler et al. 2019, 1909.08593, eq. 2,
the KL term spread over the tokens that cause it). The last action is the end-of-sequence token
where the policy stopped by itself, so stopping is what earns the score.

Shapes: B responses, T token positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rlaif.training.ppo.whiten import RunningMoments


def shape_scores(
    scores: Sequence[float | None],
    ended: Sequence[bool],
    *,
    moments: RunningMoments | None,
    clip: float,
    missing_end_penalty: float,
) -> list[float | None]:
    """Return the scores that are trained on; None stays None.

    Args:
        scores: As the scorer gave them.
        ended: Whether each response stopped by itself.
        moments: Statistics for the z-score; None leaves the scale alone.
        clip: Bound of the z-score, or of the raw score where there are no moments; > 0.
        missing_end_penalty: Subtracted, after the clip, from a response that was cut off; ≥ 0.
    """
    shaped: list[float | None] = []
    for score, stopped in zip(scores, ended, strict=True):
        if score is None:
            shaped.append(None)
            continue
        if moments is None:
            bounded = min(max(score, -clip), clip)
        else:
            bounded = moments.standardise(score, clip)
        shaped.append(bounded if stopped else bounded - missing_end_penalty)
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
