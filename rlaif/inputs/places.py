"""Records with their places (file and line, as one number), from files and from the Hub."""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlaif.config.prompts import FileKind
from rlaif.errors import EngineMissing, EngineUnavailable, RecordError
from rlaif.inputs.files import Numbered, find_files
from rlaif.inputs.formats import check_records, has_lines, read_records
from rlaif.inputs.tables import drop_nulls

_SHIFT = 40
"""Bits for the place within a file; the others are the number of the file."""

Placed = tuple[int, Any]
"""A record and its place; `Places.text` returns it as text."""


class Places:
    """The names of files, and places in them as numbers."""

    def __init__(self) -> None:
        self._names: list[tuple[str, str]] = []

    def number(self, records: Iterator[Numbered], name: str, *, lines: bool) -> Iterator[Placed]:
        """Yield the records of a new file with their places."""
        first = len(self._names) << _SHIFT
        self._names.append((name, ":" if lines else "#"))
        for number, record in records:
            yield first + number, record

    def text(self, place: int) -> str:
        """Return ``file:line``, or ``file#record`` for formats without lines."""
        name, mark = self._names[place >> _SHIFT]
        return f"{name}{mark}{place & ((1 << _SHIFT) - 1)}"


def read_path(
    path: str | Path,
    places: Places,
    *,
    kind: FileKind | None = None,
    split: str = "",
    columns: Sequence[str] | None = None,
    whole_names: bool = False,
) -> Iterator[Placed]:
    """Yield the records of all files of a path, in order, after checking each file.

    Args:
        path: As `find_files`, like ``kind`` and ``split``.
        places: Receives the names of the files.
        kind: Format of all files (default: from each name).
        split: Split of a saved data set that has several.
        columns: Read only these if the format allows it and the first exists (default: all).
        whole_names: Use whole paths in places, not paths below the common folder.

    Raises:
        RecordError: A file cannot be read, is not UTF-8, has another format, or all are empty.
        EngineMissing: A library for remote files is not installed.
    """
    files = find_files(path, kind, split)
    filled = [check_records(file, columns) for file in files]
    if not any(filled):
        what = "the file is" if len(files) == 1 else f"its {len(files)} files are"
        raise RecordError(f"{path}: {what} empty")
    for file in files:
        name = file.shown if whole_names else file.name
        yield from places.number(read_records(file, columns), name, lines=has_lines(file))


def read_hub(
    name: str, *, config: str | None, split: str, revision: str | None, streaming: bool
) -> Iterator[Numbered]:
    """Yield the records of a data set on the Hugging Face Hub, or of a folder laid out like one.

    Args:
        name: ``owner/name``, or a local folder.
        config: Its configuration, if it has several.
        split: Such as ``train``, or ``train[:10%]`` without streaming.
        revision: Branch, tag or commit.
        streaming: Read while downloading; False downloads first.

    Raises:
        EngineMissing: The `datasets` library is not installed.
        RecordError: Data set, configuration or split not found, or unreadable.
        EngineUnavailable: Reading failed after the first record.
    """
    number = 0
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise EngineMissing(
            "reading a Hugging Face data set needs the datasets library",
            hint="pip install 'constitutional-rlaif[inputs]'",
        ) from None
    try:
        records = datasets.load_dataset(
            name, config, split=split, revision=revision, streaming=streaming
        )
        for number, record in enumerate(records, start=1):
            yield number, {name: drop_nulls(value) for name, value in record.items()}
    except Exception as problem:  # noqa: BLE001 - its loaders have no common exception
        why = str(problem).strip().partition("\n")[0] or type(problem).__name__
        chosen = f"split {split}" if config is None else f"{config}, split {split}"
        if number:
            raise EngineUnavailable(
                f"{name} ({chosen}): cannot be read after record {number}: {why}",
                hint="repeat the command to resume once it can be read",
            ) from None
        raise RecordError(f"{name} ({chosen}): cannot be read: {why}") from None
