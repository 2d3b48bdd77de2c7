"""Intervals: how far an estimate may be off because other prompts could have been drawn.

Responses to one prompt resemble each other, so the prompt is the unit of chance: every interval
treats the prompts as the sample (a cluster bootstrap), and the responses of a prompt stay together.
Each prompt counts the same, however many of its responses could be scored.

What no interval here can tell: whether the prompts are the right ones, what another seed of the
training would have given, and how many intervals a reader has looked at before picking one.

Wilson: Wilson 1927, as equation (4) of Brown, Cai & DasGupta 2001. Difference of two shares:
method 10 of Newcombe 1998. Bootstrap: percentile intervals (Efron 1979); with fewer than about 20
prompts they are too narrow.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from rlaif.records import content_seed
from rlaif.records.plain import Plain

RESAMPLES = 2000
"""Resamples per interval: the ends of a 95 % interval then move by about 2 % of its width."""

CONFIDENCE = 0.95

_CELLS = 4_000_000  # resamples are drawn in blocks of at most this many places (32 MB)

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figure(Plain):
    """A number, the ends of its 95 % interval, and how many items it rests on."""

    value: float
    low: float | None
    """None when there are too few prompts for an interval."""

    high: float | None
    n: int
    method: str
    """How the interval was made: ``bootstrap``, ``wilson``, ``newcombe``, ``sandwich``, ``widest``
    (of bootstrap and Wilson) or ``none``."""

    def holds(self, value: float) -> bool:
        """Whether the interval holds ``value``; False without one."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the Wilson score interval of a share.

    Args:
        successes: How many of the ``n`` hold, in [0, n]; may be fractional (half credits).
        n: At least 1, independent of each other.
        confidence: In (0, 1).

    Raises:
        ValueError: ``n`` < 1 or ``successes`` outside [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a share needs n >= 1 and successes in [0, n], not {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding would leave the ends of 0 of n and n of n a hair beside 0 and 1.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def newcombe(
    before: float, after: float, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the interval of ``after`` − ``before`` for two shares over ``n`` prompts each.

    Takes the two as independent, which is wider than needed for paired prompts.
    """
    low_b, high_b = wilson(before * n, n, confidence)
    low_a, high_a = wilson(after * n, n, confidence)
    difference = after - before
    down = math.hypot(after - low_a, high_b - before)
    up = math.hypot(high_a - after, before - low_b)
    return difference - down, difference + up


def prompt_means(values: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Return the mean of each prompt's scored values; prompts without any are left out."""
    means: dict[str, float] = {}
    for prompt_id, row in values.items():
        scored = [value for value in row if value is not None]
        if scored:
            means[prompt_id] = math.fsum(scored) / len(scored)
    return means


def bootstrap(
    means: Mapping[str, float],
    *,
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Return the percentile interval of the mean over prompts, resampling whole prompts.

    The draws derive from ``seed`` and the prompt ids, so the order of the prompts does not matter
    and the same prompts give the same interval on every machine.

    Raises:
        ValueError: No prompts.
    """
    if not means:
        raise ValueError("an interval needs at least one prompt")
    ids = sorted(means)
    row = np.array([means[prompt_id] for prompt_id in ids])
    averages = np.concatenate(
        [row[places].mean(axis=1) for places in resample(ids, seed=seed, resamples=resamples)]
    )
    return percentiles(averages, confidence)


def resample(ids: Sequence[str], *, seed: int, resamples: int) -> Iterator[Places]:
    """Yield blocks of resamples: each row holds as many places in ``ids`` as there are ids."""
    n = len(ids)
    generator = np.random.default_rng(content_seed(seed, "bootstrap", list(ids)))
    block = max(1, _CELLS // n)
    for start in range(0, resamples, block):
        yield generator.integers(0, n, size=(min(block, resamples - start), n))


def percentiles(
    averages: npt.NDArray[np.float64], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the two ends of the interval that holds the middle of the resampled averages."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(averages, [tail, 1 - tail])
    return float(low), float(high)


def estimate_mean(
    values: Mapping[str, Sequence[float | None]], *, share: bool, seed: int
) -> Figure | None:
    """Return the mean over prompts with its 95 % interval; None when nothing was scored.

    A share that is 0 or 1 on every prompt would get a bootstrap interval of no width; it gets a
    Wilson interval over prompts instead.
    """
    means = prompt_means(values)
    if not means:
        return None
    mean = math.fsum(means.values()) / len(means)
    if share and mean in (0.0, 1.0):
        return Figure(mean, *wilson(mean * len(means), len(means)), len(means), "wilson")
    if len(means) == 1:
        return Figure(mean, None, None, 1, "none")
    return Figure(mean, *bootstrap(means, seed=seed), len(means), "bootstrap")


def estimate_difference(
    before: Mapping[str, Sequence[float | None]],
    after: Mapping[str, Sequence[float | None]],
    *,
    share: bool,
    seed: int,
) -> Figure | None:
    """Return the mean of after − before over the prompts scored in both, with its 95 % interval.

    Pairing by prompt takes the difficulty of the prompts out of the difference. None when no
    prompt was scored in both.
    """
    first, second = prompt_means(before), prompt_means(after)
    both = first.keys() & second.keys()
    if not both:
        return None
    differences = {prompt_id: second[prompt_id] - first[prompt_id] for prompt_id in both}
    mean = math.fsum(differences.values()) / len(both)
    ends = [{side[prompt_id] for prompt_id in both} for side in (first, second)]
    if share and all(end in ({0.0}, {1.0}) for end in ends):
        shares = [end.pop() for end in ends]
        return Figure(mean, *newcombe(shares[0], shares[1], len(both)), len(both), "newcombe")
    if len(both) == 1:
        return Figure(mean, None, None, 1, "none")
    return Figure(mean, *bootstrap(differences, seed=seed), len(both), "bootstrap")
