"""Where each record stands, as one number that a million records can afford, or as text."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rlaif.config.load import ADDRESS
from rlaif.config.prompts import FileKind
from rlaif.errors import RecordError
from rlaif.inputs.files import InputFile, find_files
from rlaif.inputs.formats import check_records, has_lines, read_records
from rlaif.inputs.hugging_face import saved_files
from rlaif.inputs.records import Numbered

_SHIFT = 40
"""Bits for the place within a file; the others number the files."""

Placed = tuple[int, Any]
"""A record and its place, which `Places.text` makes readable."""


class Places:
    """Names of files, and places in them as numbers."""

    def __init__(self) -> None:
        self._names: list[tuple[str, str]] = []

    def number(self, records: Iterator[Numbered], name: str, *, lines: bool) -> Iterator[Placed]:
        """Give the records of one more file their places."""
        first = len(self._names) << _SHIFT
        self._names.append((name, ":" if lines else "#"))
        for number, record in records:
            yield first + number, record

    def text(self, place: int) -> str:
        """``file:line``, or ``file#record`` where there are no lines."""
        name, mark = self._names[place >> _SHIFT]
        return f"{name}{mark}{place & ((1 << _SHIFT) - 1)}"


def files_of(path: str | Path, *, kind: FileKind | None = None, split: str = "") -> list[InputFile]:
    """Return the files that a path, pattern, folder or address names.

    Args:
        path: Also a folder that ``datasets`` saved.
        kind: Of all files, where their names do not tell.
        split: Of a saved data set that has several.

    Raises:
        RecordError: There are none.
        EngineMissing: A library to reach them is not installed.
    """
    text = str(path)
    if not ADDRESS.search(text) and Path(text).is_dir():
        saved = saved_files(Path(text), split)
        if saved is not None:
            return saved
    return find_files(text, kind)


def read_path(
    path: str | Path,
    places: Places,
    *,
    kind: FileKind | None = None,
    split: str = "",
    columns: Collection[str] | None = None,
    whole_names: bool = False,
) -> Iterator[Placed]:
    """Yield the records of all files that a path names, in order, each file checked first.

    Args:
        path: As `files_of`, like ``kind`` and ``split``.
        places: Gets the names of the files.
        kind: Of all files, where their names do not tell.
        split: Of a saved data set that has several.
        columns: Read only these where the format can leave others out; all when None.
        whole_names: Let places name whole paths, not what is below the common folder.

    Raises:
        RecordError: A file cannot be read, is not UTF-8 or not of its kind, or all are empty.
        EngineMissing: A library to reach them is not installed.
    """
    files = files_of(path, kind=kind, split=split)
    filled = [check_records(file, columns) for file in files]
    if not any(filled):
        what = "the file is" if len(files) == 1 else f"its {len(files)} files are"
        raise RecordError(f"{path}: {what} empty")
    for file in files:
        name = file.shown if whole_names else file.name
        yield from places.number(read_records(file, columns), name, lines=has_lines(file))
