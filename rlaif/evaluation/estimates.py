"""Estimates: from the values of every model to numbers with intervals, overall and by tag."""

from collections.abc import Mapping, Sequence, Set

from rlaif.evaluation.intervals import (
    Figure,
    estimate_difference,
    estimate_mean,
    prompt_means,
)
from rlaif.evaluation.measure import Measured, Row, Values
from rlaif.evaluation.scorecard import EVERYWHERE, Estimate
from rlaif.records import Prompt


def slice_prompts(prompts: Sequence[Prompt]) -> dict[str, frozenset[str]]:
    """Return the ids of all prompts under ``all``, and of those with each tag under the tag.

    A tag that every prompt has, or that is spelled ``all``, is left out.
    """
    everything = frozenset(prompt.id for prompt in prompts)
    tags = sorted({tag for prompt in prompts for tag in prompt.tags} - {EVERYWHERE})
    tagged = {tag: frozenset(p.id for p in prompts if tag in p.tags) for tag in tags}
    return {EVERYWHERE: everything, **{t: ids for t, ids in tagged.items() if ids != everything}}


def estimate_all(
    model: str,
    measured: Sequence[Measured],
    slices: Mapping[str, frozenset[str]],
    *,
    seed: int,
) -> list[Estimate]:
    """Return the mean of every measure in every slice that has prompts for it."""
    estimates = []
    for item in measured:
        for name, prompt_ids in slices.items():
            values = _within(item.values, prompt_ids)
            if values:
                share = item.measure.kind == "share"
                interval = estimate_mean(values, share=share, seed=seed)
                estimates.append(to_estimate(model, item.measure.name, name, interval, values))
    return estimates


def change_all(
    model: str,
    before: Sequence[Measured],
    after: Sequence[Measured],
    slices: Mapping[str, frozenset[str]],
    *,
    seed: int,
) -> list[Estimate]:
    """Return after − before, paired by prompt, for every measure that both have.

    What is counted as scored and unscored here are prompts.
    """
    first = {item.measure.name: item for item in before}
    changes = []
    for item in after:
        if item.measure.name not in first:
            continue
        for name, prompt_ids in slices.items():
            old = _within(first[item.measure.name].values, prompt_ids)
            new = _within(item.values, prompt_ids)
            if old and new:
                share = item.measure.kind == "share"
                interval = estimate_difference(old, new, share=share, seed=seed)
                paired = _pair(prompt_means(old), prompt_means(new), old.keys() | new.keys())
                changes.append(to_estimate(model, item.measure.name, name, interval, paired))
    return changes


def to_estimate(
    model: str, measure: str, slice: str, figure: Figure | None, values: Values
) -> Estimate:
    """Put a figure and the counts behind it into one record."""
    scored = {key: sum(value is not None for value in row) for key, row in values.items()}
    return Estimate(
        model=model,
        measure=measure,
        slice=slice,
        estimate=None if figure is None else figure.value,
        low=None if figure is None else figure.low,
        high=None if figure is None else figure.high,
        n=sum(count > 0 for count in scored.values()),
        scored=sum(scored.values()),
        unscored=sum(len(row) for row in values.values()) - sum(scored.values()),
        method="none" if figure is None else figure.method,
    )


def _within(values: Values, prompt_ids: frozenset[str]) -> Values:
    return {key: row for key, row in values.items() if key in prompt_ids}


def _pair(
    old: Mapping[str, float], new: Mapping[str, float], prompt_ids: Set[str]
) -> dict[str, Row]:
    """Return one value per prompt to count: unscored where either side knows nothing."""
    return {
        key: (new[key] - old[key] if key in old and key in new else None,) for key in prompt_ids
    }
