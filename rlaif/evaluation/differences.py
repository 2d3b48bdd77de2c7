"""Differences: every model against every other, tested together so that chance does not win.

p: a paired sign-flip test over prompts (Fisher 1935): were two models alike, each prompt's
difference could as well have had the other sign. Two-sided, with (1 + flips at least as extreme) /
(1 + flips). For differences of 0 and ±1 it is the exact test of McNemar, by simulation.

Holm 1979 adjusts the p of all differences of one scorecard (pairs × measures × tags): the chance of
one or more false "differs" among them is at most 5 % when those below 0.05 are believed. In its
place, Benjamini & Hochberg 1995: among those believed, at most 5 % are false on average. That finds
more, and holds for tests that are independent or positively dependent.

What it cannot tell: that two models are alike. ``detectable`` is the difference that so many
prompts would have shown four times in five.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist
from typing import Literal

import numpy as np

from rlaif.evaluation.intervals import Figure, estimate_difference, prompt_means
from rlaif.evaluation.measure import Measured, Row
from rlaif.records import content_seed

Correction = Literal["holm", "bh"]
"""How p is adjusted for many tests: Holm 1979, or Benjamini & Hochberg 1995."""

FLIPS = 10_000
_BLOCK = 1000

SPREADS = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
"""Standard errors that a difference must measure to be shown at 5 % four times in five: 2.80."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one model is from another in one measure."""

    model: str
    other: str
    measure: str
    slice: str
    """``all``, or a tag."""

    difference: float
    """Model minus other, paired by prompt; for comparisons with the baseline, such as
    ``wins/judges``, the rate minus the value that means equal."""

    low: float | None
    high: float | None
    """Ends of its own 95 % interval, not adjusted; None with a single prompt."""

    n: int
    """Prompts scored for both."""

    p: float
    """Of the paired sign-flip test."""

    adjusted: float
    """The same after Holm, or Benjamini and Hochberg, over all differences of the scorecard."""

    detectable: float | None
    """The smallest true difference that a test at 5 % (not adjusted) finds with 80 % power, from
    the spread between prompts; None when nothing spreads."""


def compare_models(
    measured: Mapping[str, Sequence[Measured]],
    wins: Mapping[str, Sequence[Measured]],
    slices: Mapping[str, frozenset[str]],
    *,
    baseline: str,
    seed: int,
    correction: Correction = "holm",
    between: Mapping[tuple[str, str], Sequence[Measured]] | None = None,
) -> tuple[Difference, ...]:
    """Return every difference between two models, in every measure and slice that has both.

    Args:
        measured: What was measured of every model alone.
        wins: Comparisons with the baseline, by model.
        slices: Slice to prompt ids.
        baseline: The other side of ``wins``.
        seed: For flips and intervals.
        correction: How p is adjusted.
        between: Comparisons of (model, other) where neither is the baseline.
    """
    drafts: list[Difference] = []
    columns: list[Mapping[str, float]] = []
    compared = {(model, baseline): items for model, items in wins.items()} | dict(between or {})
    for pair, item, before, after in _pairs(measured, compared, baseline):
        for name, prompt_ids in slices.items():
            old, new = (
                {key: row for key, row in side.items() if key in prompt_ids}
                for side in (before, after)
            )
            share = item.measure.kind == "share"
            figure = estimate_difference(old, new, share=share, seed=seed)
            if figure is None:
                continue
            first, second = prompt_means(old), prompt_means(new)
            columns.append({key: second[key] - first[key] for key in first.keys() & second.keys()})
            drafts.append(_draft(pair, item, name, figure, columns[-1]))
    values = sign_flip_values(columns, seed=seed)
    adjust = adjust_holm if correction == "holm" else adjust_bh
    return tuple(
        replace(draft, p=p, adjusted=adjusted)
        for draft, p, adjusted in zip(drafts, values, adjust(values), strict=True)
    )


def sign_flip_values(columns: Sequence[Mapping[str, float]], *, seed: int) -> list[float]:
    """Return the two-sided p of each column of differences by prompt, with common flips."""
    if not columns:
        return []
    ids = sorted({key for column in columns for key in column})
    table = np.array([[column.get(key, 0.0) for column in columns] for key in ids])
    observed = np.abs(table.sum(axis=0))
    slack = 1e-9 * np.maximum(np.abs(table).sum(axis=0), 1e-300)
    # The smallest p that flips can give must survive Holm over all columns.
    blocks = math.ceil(max(FLIPS, 40 * len(columns)) / _BLOCK)
    draw = np.random.default_rng(content_seed(seed, "sign-flips", ids))
    extreme = np.zeros(len(columns))
    for _ in range(blocks):
        signs = 2.0 * draw.integers(0, 2, size=(_BLOCK, len(ids)), dtype=np.int8) - 1.0
        extreme += (np.abs(signs @ table) >= observed - slack).sum(axis=0)
    return [float(value) for value in (1 + extreme) / (1 + blocks * _BLOCK)]


def adjust_holm(values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p, in the order given (Holm 1979)."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(np.argsort(values, kind="stable")):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted


def adjust_bh(values: Sequence[float]) -> list[float]:
    """Return the adjusted p of Benjamini and Hochberg 1995, in the order given."""
    adjusted, lowest = [0.0] * len(values), 1.0
    order = np.argsort(values, kind="stable")
    for rank in range(len(values), 0, -1):
        place = order[rank - 1]
        lowest = min(lowest, len(values) / rank * values[place])
        adjusted[place] = lowest
    return adjusted


def detectable_difference(values: Sequence[float]) -> float | None:
    """Return what a test at 5 % over these differences shows with 80 % power, if true."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return SPREADS * spread / math.sqrt(len(values)) if spread > 0 else None


def explain_power(prompts: int) -> str:
    """Return, before anything is measured, what so many prompts can show.

    The spreads are the largest that independent answers have: √½ for the change of a share, ½ for a
    win rate.
    """
    share, rate = (SPREADS * spread / math.sqrt(prompts) for spread in (math.sqrt(0.5), 0.5))
    return (
        f"{prompts} prompts show (at 5 %, four times in five) a change of a share of "
        f"{min(100.0, 100 * share):.0f} points or more, and a win rate "
        f"{min(50.0, 100 * rate):.0f} points or more from 50 %; less where models answer alike, "
        "more after adjusting for many measures"
    )


def _pairs(
    measured: Mapping[str, Sequence[Measured]],
    wins: Mapping[tuple[str, str], Sequence[Measured]],
    baseline: str,
) -> Iterator[tuple[tuple[str, str], Measured, Mapping[str, Row], Mapping[str, Row]]]:
    models = [baseline, *(model for model in measured if model != baseline)]
    for other, model in combinations(models, 2):
        before = {item.measure.name: item.values for item in measured[other]}
        for item in measured[model]:
            if item.measure.name in before:
                yield (model, other), item, before[item.measure.name], item.values
        for item in wins.get((model, other), ()):
            if item.measure.even:  # 0 is even for what tells about judges, not about models
                level = dict.fromkeys(item.values, (item.measure.even,))
                yield (model, other), item, level, item.values


def _draft(
    pair: tuple[str, str], item: Measured, slice: str, figure: Figure, column: Mapping[str, float]
) -> Difference:
    return Difference(
        model=pair[0],
        other=pair[1],
        measure=item.measure.name,
        slice=slice,
        difference=figure.value,
        low=figure.low,
        high=figure.high,
        n=figure.n,
        p=1.0,
        adjusted=1.0,
        detectable=detectable_difference(list(column.values())),
    )
