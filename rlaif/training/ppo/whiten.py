"""Moments: whitening over valid tokens of a whole rollout, and running statistics of scores.

Sums go through ``add_up``, which adds over processes; alone it is the identity. So the result is
the same however the rollout is spread.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

AddUp = Callable[[Tensor], Tensor]
"""Adds a tensor over all processes."""

_EPSILON = 1e-8


def keep(tensor: Tensor) -> Tensor:
    """Add up over one process: the tensor itself."""
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

    def to_json(self) -> dict[str, float]:
        """Return plain numbers; ``RunningMoments(**numbers)`` reads them back."""
        return asdict(self)
