"""Transforms: what is done to a preference after it was read, on record and never in place.

Each is symmetric: it does to ``1 − p`` what it does to ``p``, so it favours neither response.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlaif.judging.position import sigmoid
from rlaif.records import Judgment


@dataclass(frozen=True, slots=True)
class Clamp:
    """Keep the preference within [low, 1 − low].

    Bai et al. 2022 (arXiv 2212.08073) clamp chain-of-thought labels to 40–60 % (``low`` 0.4).
    """

    low: float
    """In [0, ½]."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= 0.5:
            raise ValueError(f"a clamp must start in [0, 0.5], not at {self.low}")

    def __str__(self) -> str:
        return f"clamp({self.low:g}..{1.0 - self.low:g})"

    def apply(self, preference: float) -> float:
        """Return the preference within bounds."""
        return min(1.0 - self.low, max(self.low, preference))


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divide log-odds by t: above 1 the preference moves towards ½, below 1 away from it."""

    t: float
    """> 0."""

    def __post_init__(self) -> None:
        if not 0.0 < self.t < math.inf:
            raise ValueError(f"a temperature must be above 0, not {self.t}")

    def __str__(self) -> str:
        return f"temperature({self.t:g})"

    def apply(self, preference: float) -> float:
        """Return the tempered preference; 0 and 1 stay, their log-odds being infinite."""
        if preference in (0.0, 1.0):
            return preference
        return sigmoid((math.log(preference) - math.log1p(-preference)) / self.t)


@dataclass(frozen=True, slots=True)
class Soften:
    """Draw the preference towards ½ by a factor: 1 leaves it, 0 makes it ½."""

    factor: float
    """In [0, 1]."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.factor <= 1.0:
            raise ValueError(f"a factor must be in [0, 1], not {self.factor}")

    def __str__(self) -> str:
        return f"soften({self.factor:.6g})"

    def apply(self, preference: float) -> float:
        """Return the softened preference."""
        return 0.5 + self.factor * (preference - 0.5)


Transform = Clamp | Temperature | Soften


def apply_transforms(judgment: Judgment, transforms: Sequence[Transform]) -> Judgment:
    """Apply transforms in order and put each on record; a judgment without preference stays so."""
    if judgment.preference is None:
        return judgment
    preference = judgment.preference
    for transform in transforms:
        preference = transform.apply(preference)
    record = (*judgment.transforms, *(str(transform) for transform in transforms))
    return replace(judgment, preference=preference, transforms=record)
