"""The log: what happened when, one JSON object a line.

For people and `status`. No data depend on it, so it is not synced, and invalid lines are skipped.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from rlaif.runs.files import cannot_write


class EventLog:
    """Appends events to ``log.jsonl``. Close when done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            torn = _ends_torn(path)
            self._file = path.open("ab", buffering=0)
            if torn:
                self._file.write(b"\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    def __call__(self, event: str, /, **fields: Any) -> None:
        """Write one event.

        Args:
            event: What happened, one word such as ``started`` or ``finished``.
            fields: JSON-compatible details; others are written as text.

        Raises:
            RunError: The disk is full or the file cannot be written.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = orjson.dumps({"time": now, "event": event} | fields, default=str)
        try:
            self._file.write(line + b"\n")
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield events in the order written; lines that are not JSON objects are skipped."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(event, dict):
                yield event


def _ends_torn(path: Path) -> bool:
    """Whether the last line lacks its end, so that the next would be glued to it."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"
