"""Corrected rates: what a share found by an imperfect detector or judge says about the true share.

Rogan & Gladen 1978: with q1 the share of true cases that are found and q0 the share of other cases
that are not, a found share p means θ = (p + q0 − 1) / (q0 + q1 − 1). Interval: p, q0 and q1 are
drawn from Beta(successes + ½, failures + ½), independent of each other, and θ of every draw is
clipped to [0, 1]; its middle 95 % is the interval, so the uncertainty of q0 and q1 counts too.

What it cannot tell: anything when q0 and q1 were measured on other models or prompts than the
share. They differ between models, and a correction by another model's q0 and q1 can be worse than
none (docs/experiments.md).
"""

from dataclasses import dataclass

import numpy as np

from rlaif.errors import RecordError
from rlaif.evaluation.intervals import Figure, percentiles
from rlaif.records import content_seed

_DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often a detector or judge was right, counted against human labels."""

    cases: int
    """Labelled items that are what is looked for; at least 1."""

    found: int
    """How many of them it found."""

    others: int
    """Labelled items that are not; at least 1."""

    passed: int
    """How many of those it rightly did not report."""

    def __post_init__(self) -> None:
        fits = 0 <= self.found <= self.cases and 0 <= self.passed <= self.others
        if not fits or self.cases < 1 or self.others < 1:
            raise RecordError(
                f"a confusion needs 0 <= found <= cases and 0 <= passed <= others, with at least "
                f"one case and one other, not {self}"
            )

    @property
    def sensitivity(self) -> float:
        """q1: the share of the cases that are found."""
        return self.found / self.cases

    @property
    def specificity(self) -> float:
        """q0: the share of the others that are not."""
        return self.passed / self.others


def correct_rate(rate: Figure, confusion: Confusion, *, seed: int = 0) -> Figure:
    """Return the true share that a found share stands for, with its 95 % interval.

    Args:
        rate: The share found. Its interval says how many independent items it is worth, so
            responses to the same prompt do not count as independent; without one, ``n`` does.
        confusion: Measured on responses of the same models to the same kind of prompts.
        seed: For the draws.

    Raises:
        RecordError: The rate is outside [0, 1], or q0 + q1 <= 1: what is found then says nothing
            about what is there.
    """
    q0, q1 = confusion.specificity, confusion.sensitivity
    if q0 + q1 <= 1:
        raise RecordError(
            f"the rate cannot be corrected: found among the cases {q1:.3f}, among the others "
            f"{1 - q0:.3f}; a detector must find more among the cases"
        )
    if not 0 <= rate.value <= 1:
        raise RecordError(f"a rate lies in [0, 1], not {rate.value}")
    draw = np.random.default_rng(content_seed(seed, "rogan-gladen", rate.to_json(), str(confusion)))
    size = _worth(rate)
    p = draw.beta(rate.value * size + 0.5, (1 - rate.value) * size + 0.5, _DRAWS)
    found, passed = confusion.found, confusion.passed
    q1s = draw.beta(found + 0.5, confusion.cases - found + 0.5, _DRAWS)
    q0s = draw.beta(passed + 0.5, confusion.others - passed + 0.5, _DRAWS)
    usable = q0s + q1s > 1
    thetas = np.clip((p + q0s - 1)[usable] / (q0s + q1s - 1)[usable], 0, 1)
    value = min(1.0, max(0.0, (rate.value + q0 - 1) / (q0 + q1 - 1)))
    low, high = percentiles(thetas)
    return Figure(value, min(low, value), max(high, value), rate.n, "rogan-gladen")


def _worth(rate: Figure) -> float:
    """Independent items whose share would have an interval as wide as this one."""
    if rate.low is None or rate.high is None or rate.value in (0.0, 1.0) or rate.high <= rate.low:
        return float(rate.n)
    error = (rate.high - rate.low) / (2 * 1.959964)
    return float(rate.value * (1 - rate.value) / error**2)
