"""Intervals: how far an estimate may be off because other prompts could have been drawn.

Responses to one prompt resemble each other, so the prompt is the unit of chance: every interval
treats the prompts as the sample, and what belongs to a prompt stays together. Two kinds do for
all figures of evaluations and audits, and `docs/experiments.md` has their simulated coverage:

- *Shares* (means of values in [0, 1]): Wilson's score interval (Wilson 1927, as equation (4) of
  Brown, Cai & DasGupta 2001) with an effective sample size in place of n: share·(1 − share) over
  the variance between prompts, times (z/t)² for its degrees of freedom (Korn & Graubard 1998). That
  variance rests on the prompts that show the rarer outcome. When they are few it is mostly luck, so
  one prompt's worth of "all responses of a prompt are alike" is added to it; with no such prompt
  that is all there is. The difference of two shares: square and add (method 10 of Newcombe 1998),
  less what pairing by prompt takes out (Zou & Donner 2008).
- *Means of other numbers*: a studentised bootstrap over prompts. *Everything else*: the percentiles
  of a bootstrap over prompts (Efron 1979), further out for few prompts as Hesterberg 2015 proposes
  (arXiv 1411.5279, expanded percentile interval).

What no interval here can tell: whether the prompts are the right ones, what another seed of the
training would have given, and how many intervals a reader has looked at before picking one.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
_TINY = 1e-12
_FEWEST_STUDENTISED = 10
_FEWEST_DEFINED = 0.9
"""A statistic that more than one draw in ten leaves undefined gets no interval."""

Places = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
Statistic = Callable[[Numbers], Numbers]
"""From weights_BN to values_B: a row says how often each item was drawn. B resamples, N items; NaN
where a draw leaves nothing to compute."""


@dataclass(frozen=True, slots=True)
class Figure(Plain):
    """A number, the ends of its 95 % interval, and how many items it rests on."""

    value: float
    low: float | None
    """None when there are too few prompts for an interval."""

    high: float | None
    n: int
    method: str
    """How the interval was made: ``wilson``, ``newcombe``, ``bootstrap``, ``sandwich``,
    ``tobit``, ``inversion``, ``at-least`` or ``none``."""

    def holds(self, value: float) -> bool:
        """Whether the interval holds ``value``; False without one."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


def student_t(clusters: int, confidence: float = CONFIDENCE) -> float:
    """Return the two-sided quantile of Student's t with ``clusters`` − 1 degrees of freedom.

    By the expansion of Abramowitz & Stegun 26.7.5: within 0.001 from 4 clusters on; 11.3 in place
    of 12.7 for 2.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / (clusters - 1.0) ** (at + 1) for at, term in enumerate(terms))


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the Wilson score interval of a share.

    Args:
        successes: How many of the ``n`` hold, in [0, n]; may be fractional (half credits).
        n: Above 0, independent of each other; may be fractional (an effective size).
        confidence: In (0, 1).

    Raises:
        ValueError: ``n`` ≤ 0 or ``successes`` outside [0, n].
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"a share needs n > 0 and successes in [0, n], not {successes} of {n}")
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
    before: float,
    after: float,
    n: float | tuple[float, float],
    confidence: float = CONFIDENCE,
    *,
    correlation: float = 0.0,
) -> tuple[float, float]:
    """Return the interval of ``after`` − ``before`` for two shares.

    Args:
        before: In [0, 1].
        after: In [0, 1].
        n: The (effective) size behind both, or behind each.
        confidence: In (0, 1).
        correlation: Of the two estimates, in [−1, 1]: what both owe to the same prompts. 0 takes
            them as independent.
    """
    sizes = n if isinstance(n, tuple) else (n, n)
    low_b, high_b = wilson(before * sizes[0], sizes[0], confidence)
    low_a, high_a = wilson(after * sizes[1], sizes[1], confidence)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    difference = after - before
    down = reach(after - low_a, high_b - before)
    up = reach(high_a - after, before - low_b)
    return difference - down, difference + up


def effective_size(
    values: Sequence[float], clusters: Sequence[str], weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """Return a share and how many independent items it is worth.

    Args:
        values: In [0, 1], one per item; at least one.
        clusters: The cluster (prompt) of each item.
        weights: Of the items, > 0; all the same by default.
    """
    x_N = np.asarray(values, dtype=np.float64)
    w_N = np.ones(len(x_N)) if weights is None else np.asarray(weights, dtype=np.float64)
    of_item_N = _numbered(clusters)[1]
    total, count = float(w_N.sum()), int(of_item_N.max()) + 1
    share = min(1.0, max(0.0, float(w_N @ x_N) / total))
    sizes_G, sums_G = np.bincount(of_item_N, w_N), np.bincount(of_item_N, w_N * x_N)
    alike = float(sizes_G @ sizes_G) / total**2  # 1/n where all items of a cluster are the same
    if share in (0.0, 1.0) or count < 2:
        return share, 1.0 / alike
    spread = float(w_N @ (x_N - share) ** 2) / total
    between = float(((sums_G - share * sizes_G) ** 2).sum()) / total**2 * count / (count - 1)
    between = max(between, spread * float(w_N @ w_N) / total**2)
    rarer = min(int((sums_G > 0.0).sum()), int((sizes_G - sums_G > _TINY).sum()))
    variance = (rarer * between + max(between, spread * alike)) / (rarer + 1)
    fewer = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) / student_t(count)
    return share, fewer**2 * share * (1 - share) / max(variance, _TINY)


def share_figure(values: Sequence[float], clusters: Sequence[str]) -> Figure | None:
    """Return the mean of values in [0, 1] with its interval over clusters; None without values.

    Args:
        values: One per item.
        clusters: The cluster (prompt) of each item.
    """
    if not values:
        return None
    share, n = effective_size(values, clusters)
    if len(set(clusters)) < 2:
        return Figure(share, None, None, len(values), "none")
    return Figure(share, *wilson(share * n, n), len(values), "wilson")


def bootstrap_figure(
    statistic: Statistic, clusters: Sequence[str], *, seed: int, resamples: int = RESAMPLES
) -> Figure | None:
    """Return a statistic over all items with its bootstrap interval over clusters.

    None where it is not defined on the items themselves. Without interval (``method`` none) where
    there is one cluster, or too many draws leave it undefined.

    Args:
        statistic: See `Statistic`. Weights of 1 for every item give the value itself.
        clusters: The cluster (prompt) of each item, N of them.
        seed: Of the draws, which also depend on the names of the clusters.
        resamples: How many draws.
    """
    n = len(clusters)
    if n == 0:
        return None
    value = float(statistic(np.ones((1, n)))[0])
    if not math.isfinite(value):
        return None
    names, of_item_N = _numbered(clusters)
    if len(names) < 2:
        return Figure(value, None, None, n, "none")
    draws = draw_counts(names, seed=seed, resamples=resamples)
    values_B = np.concatenate([statistic(counts_BG[:, of_item_N]) for counts_BG in draws])
    defined = values_B[np.isfinite(values_B)]
    if len(defined) < _FEWEST_DEFINED * len(values_B):
        return Figure(value, None, None, n, "none")
    low, high = percentiles(defined, clusters=len(names))
    return Figure(value, low, high, n, "bootstrap")


def mean_of(values: Sequence[float] | Numbers) -> Statistic:
    """Return the statistic that is the mean of values, one per item."""
    values_N = np.asarray(values, dtype=np.float64)

    def statistic(weights_BN: Numbers) -> Numbers:
        return divide(weights_BN @ values_N, weights_BN.sum(axis=1))

    return statistic


def divide(above: Numbers, below: Numbers) -> Numbers:
    """Divide element by element; NaN where the divisor is 0."""
    out: Numbers = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=out, where=below != 0.0)
    return out


def resample(ids: Sequence[str], *, seed: int, resamples: int) -> Iterator[Places]:
    """Yield blocks of resamples: each row holds as many places in ``ids`` as there are ids.

    The draws derive from ``seed`` and the ids alone, so the same prompts give the same interval on
    every machine.
    """
    n = len(ids)
    generator = np.random.default_rng(content_seed(seed, "bootstrap", list(ids)))
    block = max(1, _CELLS // n)
    for start in range(0, resamples, block):
        yield generator.integers(0, n, size=(min(block, resamples - start), n))


def draw_counts(ids: Sequence[str], *, seed: int, resamples: int) -> Iterator[Numbers]:
    """Yield the blocks of `resample` as rows of counts: how often each id was drawn."""
    for places in resample(ids, seed=seed, resamples=resamples):
        counts = np.zeros((len(places), len(ids)))
        np.add.at(counts, (np.arange(len(places))[:, None], places), 1.0)
        yield counts


def percentiles(
    averages: Numbers, confidence: float = CONFIDENCE, *, clusters: int | None = None
) -> tuple[float, float]:
    """Return the ends of the interval that holds the middle of the resampled averages.

    Args:
        averages: One per resample.
        confidence: In (0, 1).
        clusters: How many clusters were drawn from: the fewer, the further out the ends lie. None
            takes the plain percentiles.
    """
    tail = (1 - confidence) / 2
    if clusters is not None:
        wider = math.sqrt(clusters / (clusters - 1)) * student_t(clusters, confidence)
        tail = NormalDist().cdf(-wider)
    low, high = np.quantile(averages, [tail, 1 - tail])
    return float(low), float(high)


def prompt_means(values: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Return the mean of each prompt's scored values; prompts without any are left out."""
    scored = {prompt: [v for v in row if v is not None] for prompt, row in values.items()}
    return {prompt: math.fsum(row) / len(row) for prompt, row in scored.items() if row}


def bootstrap(
    means: Mapping[str, float],
    *,
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Return the interval of the mean over prompts, resampling whole prompts.

    Studentised (bootstrap-t, Efron 1982), so that skewed numbers such as lengths are held too; for
    fewer than 10 prompts, whose resamples often have no spread, the percentiles.

    Raises:
        ValueError: Fewer than two prompts.
    """
    if len(means) < 2:
        raise ValueError("an interval needs at least two prompts")
    ids = sorted(means)
    row = np.array([means[prompt_id] for prompt_id in ids])
    drawn = [row[places] for places in resample(ids, seed=seed, resamples=resamples)]
    averages = np.concatenate([some.mean(axis=1) for some in drawn])
    if len(ids) < _FEWEST_STUDENTISED:
        return percentiles(averages, confidence, clusters=len(ids))
    spreads = np.concatenate([some.std(axis=1, ddof=1) for some in drawn])
    mean, spread = float(row.mean()), float(row.std(ddof=1))
    away = divide(averages - mean, spreads)[spreads > _TINY]
    if spread <= _TINY or not len(away):
        return mean, mean
    low, high = percentiles(away, confidence)
    return mean - high * spread, mean - low * spread


def estimate_mean(
    values: Mapping[str, Sequence[float | None]], *, share: bool, seed: int
) -> Figure | None:
    """Return the mean over prompts with its 95 % interval; None when nothing was scored.

    Each prompt counts the same, however many of its responses could be scored.
    """
    means = prompt_means(values)
    if not means:
        return None
    mean, n = math.fsum(means.values()) / len(means), len(means)
    if n == 1:
        return Figure(mean, None, None, 1, "none")
    if not share:
        return Figure(mean, *bootstrap(means, seed=seed), n, "bootstrap")
    mean, size = _effective_prompts(values, means)
    return Figure(mean, *wilson(mean * size, size), n, "wilson")


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
    both = sorted(first.keys() & second.keys())
    if not both:
        return None
    differences = {prompt: second[prompt] - first[prompt] for prompt in both}
    mean, n = math.fsum(differences.values()) / len(both), len(both)
    if n == 1:
        return Figure(mean, None, None, 1, "none")
    if not share:
        return Figure(mean, *bootstrap(differences, seed=seed), n, "bootstrap")
    one, size = _effective_prompts(before, both)
    other, other_size = _effective_prompts(after, both)
    x, y = (np.array([side[prompt] for prompt in both]) for side in (first, second))
    spread = float(x.std() * y.std())
    same = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread else 0.0
    same = min(1.0, max(-1.0, same))
    ends = newcombe(one, other, (size, other_size), correlation=same)
    return Figure(mean, *ends, n, "newcombe")


def _effective_prompts(
    values: Mapping[str, Sequence[float | None]], prompts: Iterable[str]
) -> tuple[float, float]:
    """`effective_size` of the scored values, each prompt with the same weight."""
    rows = [(prompt, [v for v in values[prompt] if v is not None]) for prompt in sorted(prompts)]
    return effective_size(
        [value for _, row in rows for value in row],
        [prompt for prompt, row in rows for _ in row],
        [1.0 / len(row) for _, row in rows for _ in row],
    )


def _numbered(clusters: Sequence[str]) -> tuple[list[str], Places]:
    """Return the sorted names of the clusters, and the number of each item's."""
    names, of_item_N = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
    return [str(name) for name in names], of_item_N.astype(np.int64)
