"""What is recorded of a run, an audit or an evaluation, and how two recordings are compared.

Nothing enters that depends on the machine, the day or an installed version: a manifest's
fingerprint is a hash over the plan alone, which holds no version and no path, and its fields
``versions``, ``created``, ``config`` (paths) and ``notices`` (prose) are left out. The numbers of
the formats (of rows, audits, scorecards) do enter: they are promises.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.golden.inside import ledger_facts

PLACES = 9
_SHOWN = 20
_PROSE = ("notices", "cannot_tell", "says", "message")
"""Sentences for people: rewording one changes no data."""

_HASHED = "record_id"
"""A failed call's judgment is named by a hash that its floats enter to the last bit."""


def digest(value: Any) -> str:
    """Hash a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def arithmetic() -> str:
    """Hash what this machine's libraries make of functions whose last digit is not prescribed.

    Where this is as it was recorded, rows must be equal to the last bit; elsewhere, to nine places.
    """
    grid = [number / 7 for number in range(1, 200)]
    found = [[math.exp(x - 14), math.log(x), math.log1p(x), math.tanh(x)] for x in grid]
    several = np.array(grid)
    square = several[:49].reshape(7, 7) + 10 * np.eye(7)
    fields = (np.exp(several - 14), np.log(several), np.linalg.solve(square, several[:7]))
    return digest([found, *(field.tolist() for field in fields)])


def rounded(value: Any) -> Any:
    """Return a JSON value with nine places of every float, without prose and hashes of floats."""
    if isinstance(value, float):
        return round(value, PLACES) + 0.0  # no -0.0
    if isinstance(value, Mapping):
        left_out = (*_PROSE, _HASHED)
        return {key: rounded(item) for key, item in value.items() if key not in left_out}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def both(value: Any) -> dict[str, str]:
    """Hash a JSON value as it is, prose excepted, and with nine places."""
    return {"exact": digest(_without_prose(value)), "rounded": digest(rounded(value))}


def _without_prose(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_prose(item) for key, item in value.items() if key not in _PROSE}
    return [_without_prose(item) for item in value] if isinstance(value, list) else value


def run_facts(folder: Path) -> dict[str, Any]:
    """What a run directory holds: plan, rows, failed prompts, keys of calls, schema of the rows."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    return {
        "fingerprint": manifest["fingerprint"],
        "plan": {key: digest(value) for key, value in manifest["plan"].items()},
        "constitution": manifest["constitution_label"],
        "engines": {role: digest(identity) for role, identity in manifest["engines"].items()},
        "schema": sorted(_schemas(folder)),
        "rows": row_facts(folder),
        "failures": _failures(folder),
        "ledger": ledger_facts(folder),
    }


def row_facts(folder: Path) -> dict[str, Any]:
    """Every row by its prompt's id: hashes over the whole row, and labels for people to read."""
    return {
        row["prompt"]["id"]: {
            "id": row["id"],
            "labels": _labels(row),
            "counts": ", ".join(
                f"{len(row[name])} {name}"
                for name in ("responses", "critiques", "revisions", "pairs", "drops", "failures")
            ),
            **both(row),
        }
        for row in rows(folder)
    }


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run as the shards hold them."""
    for shard in sorted((folder / "shards").glob("*.parquet")):
        with pq.ParquetFile(shard) as file:
            yield from file.read().to_pylist()


def table_facts(folder: Path) -> dict[str, Any]:
    """What an export wrote: the schema, and the records in any order."""
    with pq.ParquetFile(next(folder.glob("data/*.parquet"))) as file:
        records = file.read().to_pylist()
        schema = digest(str(file.schema_arrow.remove_metadata()))
    exact = sorted(digest(record) for record in records)
    near = sorted(digest(rounded(record)) for record in records)
    return {
        "records": len(records),
        "schema": schema,
        "exact": digest(exact),
        "rounded": digest(near),
    }


def result_facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result, readable, and a hash over it to the last bit."""
    return {"result": _on_lines(rounded(result)), "exact": digest(_without_prose(result))}


def _on_lines(value: Any) -> Any:
    """Write what holds only plain values, such as a figure with its interval, on one line."""
    items = list(value.values() if isinstance(value, dict) else value)
    if not any(isinstance(item, dict | list) for item in items):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {
        str(key): _on_lines(item) if isinstance(item, dict | list) else item for key, item in pairs
    }


def lines_facts(file: Path) -> dict[str, str]:
    """Hashes over the lines of a file, in any order."""
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return {
        "lines": str(len(lines)),
        "exact": digest(sorted(digest(_without_prose(line)) for line in lines)),
        "rounded": digest(sorted(digest(rounded(line)) for line in lines)),
    }


def differences(recorded: Any, found: Any, *, exactly: bool) -> list[str]:
    """Say what differs, a line each, by its place.

    Args:
        recorded: The facts as the file holds them.
        found: The facts as they are now.
        exactly: Floats must be equal to the last bit, rather than to nine places.
    """
    lines = list(_differ(recorded, found, (), "rounded" if exactly else "exact"))
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"and {len(lines) - _SHOWN} more"]
    return lines


def _differ(old: Any, new: Any, place: tuple[str, ...], ignored: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted((old.keys() | new.keys()) - {ignored}):
            yield from _differ(old.get(key), new.get(key), (*place, key), ignored)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differ(one, other, (*place, str(number)), ignored)
    elif old != new:
        yield f"  {' · '.join(place)}: recorded {old!r:.120}, now {new!r:.120}"


def _labels(row: Mapping[str, Any]) -> str:
    """Such as ``0>1 0.731 2>0 none``: which responses of the row, and P(the first is better)."""
    number = {response["id"]: place for place, response in enumerate(row["responses"])}
    said = [
        f"{number[one['first_id']]}>{number[one['second_id']]} {_shown(one['preference'])}"
        for one in row["judgments"]
    ]
    return " ".join([*said, *(f"canary {_shown(one['preference'])}" for one in row["canaries"])])


def _shown(preference: float | None) -> str:
    return "none" if preference is None else f"{preference:.6f}"


def _schemas(folder: Path) -> set[str]:
    found = set()
    for shard in (folder / "shards").glob("*.parquet"):
        with pq.ParquetFile(shard) as file:
            number = (file.schema_arrow.metadata or {}).get(b"rlaif.schema", b"none").decode()
            found.add(f"{number}: {digest(str(file.schema_arrow.remove_metadata()))}")
    return found


def _failures(folder: Path) -> Sequence[str]:
    """Prompts that are no row, without the message; where they were read is a path on this disk."""
    file = folder / "failures.jsonl"
    if not file.is_file():
        return []
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return sorted(
        f"{one['stage']} {one['kind']} {Path(one['record_id']).name}, {one['attempts']} attempts"
        for one in lines
    )
