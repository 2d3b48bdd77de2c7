"""What drawn principles weigh: as much as makes the pool of a few aim at the pool of all.

With weights w, the label of all principles is Σ w·p / Σ w. Of a drawn few, the plain mean is biased
towards light principles when weights differ: each counts once, however often it is drawn. The
opinion under i is given the probability that i came first, given which were drawn,

    a_i = P(i arrives first | the drawn ones S),      label = Σ a_i · p_i

which is Murthy's estimator for draws without replacement (Murthy 1957; Horvitz and Thompson's
divides by inclusion probabilities instead, and its result can leave [0, 1]). It is unbiased for any
number of draws, because the first to arrive is i with probability w_i / Σ w, and its shares add up
to 1. Where some of S say nothing, the first of those that speak counts: its name does not depend
on when it arrived, nor on who else did, so the label is unbiased for those that would speak.

Arrivals are exponential with rates w (`rlaif.constitution.choose`), so with r the rate of all that
were not drawn, V those of S that speak and N those that do not,

    a_i ∝ w_i ∫₀^∞ r e^{−r v} K(v) Π_{j ∈ V∖i} (1 − e^{−w_j v}) dv
    K(v) = ∫₀^∞ e^{−(r + Σ_V w) s} Π_{n ∈ N} (1 − e^{−w_n (s + v)}) ds
"""

import math
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rlaif.constitution import Principle

Floats = npt.NDArray[np.float64]

_STEP = 0.2
"""Of the logarithm of time. In it the trapezoidal rule is exact to all digits for such integrals,
which fall off at both ends."""

_SMALL, _LONG = 1e-17, 50.0


def weigh_principles(
    drawn: Sequence[Principle],
    candidates: Sequence[Principle],
    speaking: Collection[str] | None = None,
) -> dict[str, float]:
    """Return the weight of each drawn principle's opinion.

    Together the drawn ones weigh what all candidates do, so whichever are drawn, they weigh the
    same against the rules. When every candidate was drawn, each keeps its own weight. Candidates of
    weight 0, which are never drawn, do not count.

    Args:
        drawn: By `rlaif.constitution.choose_principles` from the candidates.
        candidates: All that could have been drawn.
        speaking: Ids of those that have an opinion; None for all. The others' weights are what they
            would have been, so that they can be left out.
    """
    possible = [principle for principle in candidates if principle.weight > 0.0]
    if len(drawn) >= len(possible):
        return {principle.id: principle.weight for principle in drawn}
    total = sum(principle.weight for principle in possible)
    if len({principle.weight for principle in drawn}) <= 1:
        return {principle.id: total / len(drawn) for principle in drawn}
    rest = total - sum(principle.weight for principle in drawn)
    shares = first_shares(tuple(principle.weight for principle in drawn), (), rest)
    weights = {one.id: total * share for one, share in zip(drawn, shares, strict=True)}
    loud = [one for one in drawn if speaking is None or one.id in speaking]
    if 0 < len(loud) < len(drawn):
        together = sum(weights[one.id] for one in loud)
        silent = tuple(one.weight for one in drawn if one not in loud)
        shares = first_shares(tuple(one.weight for one in loud), silent, rest)
        weights |= {one.id: together * share for one, share in zip(loud, shares, strict=True)}
    return weights


@lru_cache(maxsize=4096)
def first_shares(
    speaking: tuple[float, ...], silent: tuple[float, ...], rest: float
) -> tuple[float, ...]:
    """Return for each that speaks the probability that it arrived first of them.

    Args:
        speaking: Weights, > 0, of those that were drawn and speak.
        silent: Weights of those that were drawn and do not.
        rest: Weight of all that were not drawn together, > 0.
    """
    fastest = max(*speaking, *silent, rest)
    v = _times(fastest, rest)
    density = v * np.exp(-rest * v) * _silent_arrived(v, rest + sum(speaking), silent)
    arrived = [-np.expm1(-weight * v) for weight in speaking]
    shares = []
    for at, weight in enumerate(speaking):
        others = [one for place, one in enumerate(arrived) if place != at]
        shares.append(weight * float(np.sum(density * np.prod([*others, 1.0 + 0 * v], axis=0))))
    total = math.fsum(shares)
    return tuple(share / total for share in shares)


def _silent_arrived(v: Floats, rate: float, silent: Sequence[float]) -> Floats | float:
    """K(v), up to a factor."""
    if not silent:
        return 1.0
    s = _times(rate, rate)
    terms = s * np.exp(-rate * s)
    arrived = [-np.expm1(-weight * (s + v[:, None])) for weight in silent]
    kernel: Floats = np.sum(terms * np.prod(arrived, axis=0), axis=1)
    return kernel


def _times(fastest: float, slowest: float) -> Floats:
    """Times at equal steps of their logarithm, from long before the first arrival to the end."""
    first, last = math.log(_SMALL / fastest), math.log(_LONG / slowest)
    times: Floats = np.exp(np.arange(first, last, _STEP))
    return times
