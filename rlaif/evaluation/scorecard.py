"""Scorecard: what an evaluation found, with intervals, counts, and what was not measured."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import RecordError
from rlaif.evaluation.measure import Measure
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
    """Values that were wanted and not had: failed samples, failed calls, abstentions."""

    method: str
    """How the interval was made: ``bootstrap``, ``wilson``, ``newcombe`` or ``none``."""


@dataclass(frozen=True, slots=True)
class Scorecard:
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
    """What a reader must know, such as a judge that judges itself."""

    nothing: str = ""
    """Why nothing was measured, or by no judge, with the most frequent failure; else empty."""

    schema: int = SCHEMA

    def estimate(self, model: str, measure: str, slice: str = EVERYWHERE) -> Estimate:
        """Return one estimate.

        Raises:
            KeyError: The scorecard has no such model, measure or slice.
        """
        return _find(self.estimates, model, measure, slice)

    def change(self, model: str, measure: str, slice: str = EVERYWHERE) -> Estimate:
        """Return the paired difference of a model to the baseline, in the measure's own unit.

        Raises:
            KeyError: As for `estimate`; the baseline itself has no change.
        """
        return _find(self.changes, model, measure, slice)

    def measure(self, name: str) -> Measure:
        """Return what is known about a measure.

        Raises:
            KeyError: It was not taken.
        """
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dictionary; `Scorecard.from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Scorecard":
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError: It is something else.
        """
        known = {one.name for one in fields(cls)}
        plain = {key: value for key, value in data.items() if key in known}
        plain["models"] = tuple(plain["models"])
        plain["notices"] = tuple(plain["notices"])
        plain["measures"] = tuple(Measure(**measure) for measure in plain["measures"])
        plain["estimates"] = tuple(Estimate(**estimate) for estimate in plain["estimates"])
        plain["changes"] = tuple(Estimate(**estimate) for estimate in plain["changes"])
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


def _find(items: Iterable[Estimate], model: str, measure: str, slice: str) -> Estimate:
    for item in items:
        if (item.model, item.measure, item.slice) == (model, measure, slice):
            return item
    raise KeyError((model, measure, slice))
