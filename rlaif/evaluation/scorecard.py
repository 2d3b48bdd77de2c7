"""Scorecard: what an evaluation found, with intervals, counts, and what was not measured.

Also the way there: from the values of every model to estimates, overall and by tag.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import RecordError
from rlaif.evaluation.differences import Correction, Difference
from rlaif.evaluation.intervals import (
    Figure,
    estimate_difference,
    estimate_mean,
    prompt_means,
)
from rlaif.evaluation.measure import Measure, Measured, Row, Values
from rlaif.records import Prompt
from rlaif.records.plain import Plain
from rlaif.runs import files
from rlaif.runs.files import make_folder

SCHEMA = 1
"""Number of the file format; readers refuse a newer one."""

EVERYWHERE = "all"
"""The slice that holds every prompt; the other slices are prompt tags."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number with its 95 % interval, and what it rests on."""

    model: str
    measure: str
    slice: str
    """``all``, or the tag of the prompts it was taken over."""

    estimate: float | None
    """None when nothing could be scored: ignorance is not 0."""

    low: float | None
    high: float | None
    """Ends of the 95 % interval over prompts; None when there are too few prompts for one."""

    n: int
    """Prompts behind the number."""

    scored: int
    """Values behind the number: responses; prompts for changes and measures of a whole group."""

    unscored: int
    """Missing values: failed samples, failed calls, abstentions."""

    method: str
    """How the interval was made: ``bootstrap``, ``wilson``, ``newcombe`` or ``none``."""


@dataclass(frozen=True, slots=True)
class Scorecard(Plain):
    """All estimates of one evaluation. Look up with `estimate` and `change`."""

    name: str
    fingerprint: str
    """Over everything that can change a number; equal ones mean the same evaluation."""

    constitution: str
    """name@fingerprint."""

    baseline: str
    models: tuple[str, ...]
    """In the order given; the baseline is one of them."""

    slices: Mapping[str, int]
    """Slice to its number of prompts."""

    draws: Mapping[str, Any]
    """How responses were drawn, the same for every model."""

    measures: tuple[Measure, ...]
    estimates: tuple[Estimate, ...]
    """Per model; win rates only for models other than the baseline."""

    changes: tuple[Estimate, ...]
    """Model minus baseline, paired by prompt, for every other measure."""

    failures: Mapping[str, int]
    """``model: kind`` to how many samples or calls failed that way."""

    notices: tuple[str, ...] = ()
    """What a reader should know, such as a judge that judges itself."""

    nothing: str = ""
    """Why nothing was measured, or by no judge, with the most frequent failure; else empty."""

    differences: tuple[Difference, ...] = ()
    """Every model against every other, with p adjusted over all of them."""

    correction: Correction = "holm"
    """How p was adjusted: ``holm``, or ``bh`` (Benjamini and Hochberg)."""

    schema: int = SCHEMA

    def estimate(self, model: str, measure: str, slice: str = EVERYWHERE) -> Estimate:
        """Return one estimate.

        Raises:
            KeyError: The scorecard has no such model, measure or slice.
        """
        return _existing(self.estimates, model, measure, slice)

    def change(self, model: str, measure: str, slice: str = EVERYWHERE) -> Estimate:
        """Return the paired difference of a model to the baseline, in the measure's own unit.

        Raises:
            KeyError: As for `estimate`; the baseline itself has no change.
        """
        return _existing(self.changes, model, measure, slice)

    def gain(self, model: str, measure: str, slice: str = EVERYWHERE) -> Estimate | None:
        """Return how far a model is from its baseline; 0 means that neither is better.

        The change for measures of one model; for comparisons such as ``wins/judges`` the estimate
        minus the value that means equal. None when it was not measured.
        """
        even = next((each.even for each in self.measures if each.name == measure), None)
        if even is None:
            return find_estimate(self.changes, model, measure, slice)
        rate = find_estimate(self.estimates, model, measure, slice)
        if rate is None or rate.estimate is None:
            return rate
        return replace(
            rate,
            estimate=rate.estimate - even,
            low=None if rate.low is None else rate.low - even,
            high=None if rate.high is None else rate.high - even,
        )

    def measure(self, name: str) -> Measure:
        """Return what is known about a measure.

        Raises:
            KeyError: It was not taken.
        """
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise KeyError(name)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Scorecard":
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError: It is something else.
        """
        known = {column.name for column in fields(cls)}
        plain = {key: value for key, value in data.items() if key in known}
        plain["models"] = tuple(plain["models"])
        plain["notices"] = tuple(plain["notices"])
        plain["measures"] = tuple(Measure(**measure) for measure in plain["measures"])
        plain["estimates"] = tuple(Estimate(**estimate) for estimate in plain["estimates"])
        plain["changes"] = tuple(Estimate(**estimate) for estimate in plain["changes"])
        plain["differences"] = tuple(Difference(**each) for each in plain.get("differences", ()))
        return cls(**plain)


def write_scorecard(card: Scorecard, path: Path) -> None:
    """Write a scorecard as JSON, whole or not at all.

    Raises:
        RunError: The folder cannot be written.
    """
    write_whole(path, orjson.dumps(card.to_json(), option=orjson.OPT_INDENT_2) + b"\n")


def read_scorecard(path: Path) -> Scorecard:
    """Read a scorecard.

    Raises:
        RecordError: No such file, not a scorecard, or written by a newer version.
    """
    try:
        data = orjson.loads(path.read_bytes())
        if isinstance(data, dict) and data.get("schema", 0) > SCHEMA:
            raise RecordError(
                f"{path}: written by a newer version (format {data['schema']}, known {SCHEMA})",
                hint="upgrade constitutional-rlaif",
            )
        return Scorecard.from_json(data)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except OSError as problem:
        raise RecordError(f"{path}: cannot be read: {problem.strerror}") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise RecordError(
            f"{path}: not a scorecard", hint="rlaif evaluate writes scorecard.json"
        ) from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder first.

    Raises:
        RunError: The folder or the file cannot be written.
    """
    make_folder(path.parent)
    files.write_whole(path, content)


def find_estimate(
    items: Iterable[Estimate], model: str, measure: str, slice: str
) -> Estimate | None:
    """Return the estimate of a model, measure and slice; None when it is not among the items."""
    key = model, measure, slice
    return next((one for one in items if (one.model, one.measure, one.slice) == key), None)


def _existing(items: Iterable[Estimate], model: str, measure: str, slice: str) -> Estimate:
    estimate = find_estimate(items, model, measure, slice)
    if estimate is None:
        raise KeyError((model, measure, slice))
    return estimate


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
    """Return one value per prompt to count: unscored where either side is missing."""
    return {
        key: (new[key] - old[key] if key in old and key in new else None,) for key in prompt_ids
    }
