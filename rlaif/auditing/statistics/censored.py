"""A mean of numbers of which some are known only to lie beyond a limit (Tobin 1958).

Log-odds are cut at a cap, and half the difference of two of them is then a limit in place of a
number. Taking limits as numbers draws the mean towards 0: a judge that adds 3.0 to what stands
first reads 1.7 where it is sure of most pairs. So the mean is taken over those whose content leaves
room for any likely bias below the cap. Where they are few, numbers are taken to be normal around
one mean: each known one counts by its density, each limit by the probability of lying beyond it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaif.evaluation.intervals import Figure, Numbers, bootstrap_figure, mean_of, student_t

FEWEST_KNOWN = 10
"""Numbers that must be known: with fewer, the estimate would rest on the normal curve's tail."""

_LEAST_SHARE = 0.05  # of known numbers among all that say anything
_STEPS = 500
_CONVERGED = 1e-7
_NARROWEST = 0.05  # of the spread: numbers that are all the same have none
_NUDGE = 1e-4
_WIDTHS = 3.0


@dataclass(frozen=True, slots=True)
class Limited:
    """A number, or what limits it."""

    cluster: str
    value: float
    side: int = 0
    """0: it is this; 1: it is at least this; −1: it is at most this."""

    room: float = math.inf
    """How far from 0 the value could be and still be known, whatever it is."""


def mean_of_limited(items: Sequence[Limited], *, seed: int) -> Figure | None:
    """Return the mean with its interval over clusters; None without items.

    Where too few are known, the mean of values and limits, ``method`` at-least: the mean is at
    least as far from 0, and the interval has no end on that side.
    """
    clusters = [item.cluster for item in items]
    plain = bootstrap_figure(mean_of([item.value for item in items]), clusters, seed=seed)
    known = sum(item.side == 0 for item in items)
    if plain is None or known == len(items):
        return plain
    if known < max(FEWEST_KNOWN, _LEAST_SHARE * len(items)):
        low, high = (plain.low, None) if plain.value >= 0.0 else (None, plain.high)
        return Figure(plain.value, low, high, plain.n, "at-least")
    value_N = np.array([item.value for item in items])
    side_N = np.array([item.side for item in items])
    mean, spread = _fit(value_N, side_N)
    # Where there was room for any likely value, knowing it does not depend on what it is.
    free = [one for one in items if one.side == 0 and one.room > abs(mean) + _WIDTHS * spread]
    if len(free) >= FEWEST_KNOWN:
        values, some = [one.value for one in free], [one.cluster for one in free]
        return bootstrap_figure(mean_of(values), some, seed=seed)
    names, of_item_N = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
    if len(names) < 2:
        return Figure(mean, None, None, len(items), "none")
    slope_N2 = _slopes(value_N, side_N, mean, spread)
    curve = np.array(
        [
            _slopes(value_N, side_N, mean + _NUDGE * a, spread + _NUDGE * b).sum(axis=0)
            - _slopes(value_N, side_N, mean - _NUDGE * a, spread - _NUDGE * b).sum(axis=0)
            for a, b in ((1, 0), (0, 1))
        ]
    ) / (2 * _NUDGE)
    sums_G2 = np.zeros((len(names), 2))
    np.add.at(sums_G2, of_item_N, slope_N2)
    inverse = np.linalg.inv(curve)
    covariance = inverse.T @ (sums_G2.T @ sums_G2) @ inverse * len(names) / (len(names) - 1)
    half = student_t(len(names)) * math.sqrt(covariance[0, 0])
    return Figure(mean, mean - half, mean + half, len(items), "tobit")


def _fit(value_N: Numbers, side_N: Numbers) -> tuple[float, float]:
    """Mean and spread of greatest likelihood, by expectation and maximisation."""
    mean, spread = float(value_N.mean()), max(float(value_N.std()), _NARROWEST)
    for _ in range(_STEPS):
        z_N = side_N * (value_N - mean) / spread
        tail_N = _mills(z_N)
        guess_N = np.where(side_N == 0, value_N, mean + side_N * spread * tail_N)
        rest_N = np.where(side_N == 0, 0.0, spread**2 * (1.0 + z_N * tail_N - tail_N**2))
        before, mean = mean, float(guess_N.mean())
        variance = float(((guess_N - mean) ** 2 + rest_N).mean())
        spread = max(math.sqrt(variance), _NARROWEST)
        if abs(mean - before) < _CONVERGED:
            break
    return mean, spread


def _slopes(value_N: Numbers, side_N: Numbers, mean: float, spread: float) -> Numbers:
    """Slope of each item's log-likelihood in mean and spread."""
    away_N = (value_N - mean) / spread
    tail_N = _mills(side_N * away_N)
    in_mean = np.where(side_N == 0, away_N, side_N * tail_N) / spread
    in_spread = np.where(side_N == 0, away_N**2 - 1.0, side_N * away_N * tail_N) / spread
    return np.stack([in_mean, in_spread], axis=1)


def _mills(z_N: Numbers) -> Numbers:
    """Density of the normal curve over what lies beyond."""
    return np.array([_inverse_mills(float(z)) for z in z_N])


def _inverse_mills(z: float) -> float:
    if z > 25.0:  # the quotient of two numbers too small to be told apart
        return z + 1.0 / z
    beyond = 0.5 * math.erfc(z / math.sqrt(2.0))
    return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) / beyond
