"""Failures: the prompts without a row, appended to ``failures.jsonl``.

A line is durable when `append_failures` returns. A crash may tear the last line; that prompt is
then simply tried again. The last record about a prompt counts, and a row overrides all of them.
A line with a single key takes a failure back: ``{"fixed": id}``, for input that was fixed or
removed. Earlier versions gave that key another name.
"""

import errno
import os
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from shlex import quote

import orjson

from rlaif.errors import RunError
from rlaif.records import Failure
from rlaif.runs.files import cannot_write, sync_folder
from rlaif.runs.ids import read_ids
from rlaif.runs.layout import Layout
from rlaif.runs.shards import read_batches
from rlaif.runs.text import fix_json

_FIELDS = {field.name for field in fields(Failure)}


def append_failures(path: Path, failures: Iterable[Failure], fixed: Iterable[str] = ()) -> None:
    """Append records and sync them to the disk, all or none.

    Args:
        path: ``failures.jsonl``.
        failures: What went wrong.
        fixed: Ids of records whose earlier failure no longer holds.

    Raises:
        RunError: Disk full or read-only; the file is as it was before.
    """
    records = [*map(asdict, failures), *({"fixed": record_id} for record_id in fixed)]
    lines = b"".join(orjson.dumps(fix_json(record)) + b"\n" for record in records)
    if not lines:
        return
    try:
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(lines) != len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
                if before == 0:
                    sync_folder(path.parent)
            except OSError:
                file.truncate(before)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error


def repair_failures(path: Path) -> bool:
    """Cut off a last line that a crash tore; True when there was one. Only under the lock."""
    if not path.is_file():
        return False
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole == len(data):
        return False
    try:
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error
    return True


def read_failures(path: Path) -> dict[str, Failure]:
    """Read the last failure of each record id that was not fixed, in order of first failure.

    Raises:
        RunError: A line other than a torn last one is not a failure record; names the line.
    """
    found: dict[str, Failure] = {}
    if not path.is_file():
        return found
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                record = orjson.loads(line)
                if isinstance(record, dict) and len(record) == 1 and not record.keys() & _FIELDS:
                    found.pop(next(iter(record.values())), None)
                    continue
                failure = Failure(**record)
            except (orjson.JSONDecodeError, TypeError) as error:
                raise RunError(
                    f"{path}:{number}: not a failure record",
                    hint=f"sed -i {number}d {quote(str(path))} and repeat the command: if the line "
                    "stood for a prompt, the prompt is tried again",
                ) from error
            found[failure.record_id] = failure
    return found


def standing_failures(path: Path, shards: Path) -> dict[str, Failure]:
    """Failures of prompts that have not become a row since.

    Raises:
        RunError: The file or a shard is damaged.
    """
    failures = read_failures(path)
    if failures:
        orphans = read_ids(Layout(shards.parent).orphans)
        for batch in read_batches(shards, ["prompt.id"], without=orphans):
            for prompt in batch.column("prompt").to_pylist():
                failures.pop(prompt["id"], None)
    return failures
