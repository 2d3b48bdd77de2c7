"""Transforms: what is done to a preference after it was read, on record and never in place.

Each `Transform` is symmetric: it does to ``1 − p`` what it does to ``p``, so it favours neither
response. The order in which they act is defined in `rlaif.judging.panel`.

`refit_judgments` ranks a whole group of responses at once (Bradley and Terry 1952):
every response i has a strength θ_i with P(i better than j) = σ(θ_i − θ_j), and the soft judgments
p_ij of the group are fitted by maximum likelihood,

    max over θ of  Σ [p_ij log σ(θ_i − θ_j) + (1 − p_ij) log σ(θ_j − θ_i)] − (prior/2) Σ θ_i²

by Newton's method, which converges in a few steps because the objective is strictly concave. Each
judgment's preference becomes what the strengths say: judgments that contradict each other in a
circle even out, and one noisy judgment is corrected by the others. The small prior keeps strengths
finite where a response won every time, and centres them at 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

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


PRIOR = 1e-3
"""Curvature that the prior adds; at p = 0.9 of one pair alone it moves the label by 0.001."""

_STEPS = 100
_CLOSE = 1e-12


def fit_strengths(judgments: Sequence[Judgment], *, prior: float = PRIOR) -> dict[str, float]:
    """Return the strength of every response that takes part in a decided judgment.

    Only differences within a group that judgments connect mean anything.

    Args:
        judgments: On responses to one prompt; those without a preference are left out.
        prior: > 0.
    """
    decided = sorted(
        (j.first_id, j.second_id, j.preference) for j in judgments if j.preference is not None
    )
    ids = sorted({one for first, second, _ in decided for one in (first, second)})
    if not ids:
        return {}
    place = {one: at for at, one in enumerate(ids)}
    i = np.array([place[first] for first, _, _ in decided])
    j = np.array([place[second] for _, second, _ in decided])
    p = np.array([preference for _, _, preference in decided])
    theta = np.zeros(len(ids))
    for _ in range(_STEPS):
        said = 1.0 / (1.0 + np.exp(theta[j] - theta[i]))
        slope = -prior * theta
        np.add.at(slope, i, p - said)
        np.add.at(slope, j, said - p)
        curve = np.eye(len(ids)) * prior
        spread = said * (1.0 - said)
        for rows, columns, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            np.add.at(curve, (rows, columns), sign * spread)
        step = np.linalg.solve(curve, slope)
        # A full Newton step overshoots where the likelihood is flat, as it is for certainties.
        theta += step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(slope).max()) < _CLOSE:
            break
    return {one: float(theta[at]) for one, at in place.items()}


def preference_of(strengths: Mapping[str, float], first: str, second: str) -> float:
    """Return P(first is better) for any two responses, compared or not.

    Raises:
        KeyError: One has no strength.
    """
    return sigmoid(strengths[first] - strengths[second])


def refit_judgments(judgments: Sequence[Judgment], *, prior: float = PRIOR) -> tuple[Judgment, ...]:
    """Replace each preference by what the strengths of its group say, on record.

    Args:
        judgments: All of one prompt. One without a preference stays without.
        prior: > 0.
    """
    strengths = fit_strengths(judgments, prior=prior)
    return tuple(
        judgment
        if judgment.preference is None
        else replace(
            judgment,
            preference=preference_of(strengths, judgment.first_id, judgment.second_id),
            transforms=(*judgment.transforms, f"bradley-terry(prior={prior:g})"),
        )
        for judgment in judgments
    )
