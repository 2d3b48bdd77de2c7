"""CSV to records: a row that has not one cell for each column is broken, at its first line."""

import csv
import io
from collections.abc import Collection, Iterable, Iterator
from typing import BinaryIO

from rlaif.errors import RecordError
from rlaif.inputs.records import Broken, Numbered, is_unicode

_FIELD = 1 << 24
"""Characters of a field at most: a quote that never closes must not take in the whole file."""


def read_csv(raw: BinaryIO, name: str, columns: Collection[str] | None) -> Iterator[Numbered]:
    """Yield the rows with the lines they start in.

    Raises:
        RecordError: The header names no columns, or one of those wanted twice.
    """
    csv.field_size_limit(max(_FIELD, csv.field_size_limit()))
    # What is not UTF-8 becomes lone surrogates, so that one bad record does not end the file.
    with io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Counted(text)
        rows = _rows(lines)
        header = next(rows, None)
        if header is None:
            return
        names = _check_header(header, name, columns)
        for line, cells in rows:
            yield line, cells if isinstance(cells, Broken) else _record(names, cells)


def _rows(lines: "_Counted") -> Iterator[tuple[int, list[str] | Broken]]:
    reader = csv.reader(lines, strict=True)
    while True:
        start = lines.count + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            yield start, Broken("bad-csv", _why(str(problem), start, lines.count))
            continue
        if cells:  # not a blank line
            yield start, cells


def _why(problem: str, start: int, end: int) -> str:
    if "unexpected end of data" in problem:
        return f"a quote opened in this line never closes; lines {start} to {end} are lost in it"
    return problem if end == start else f"{problem} (in lines {start} to {end})"


def _check_header(
    header: tuple[int, list[str] | Broken], file: str, columns: Collection[str] | None
) -> list[str]:
    line, names = header
    if isinstance(names, Broken):
        raise RecordError(f"{file}:{line}: the header cannot be read: {names.message}")
    if not any(name.strip() for name in names):
        raise RecordError(
            f"{file}:{line}: the header names no columns",
            hint="the first line of a CSV file holds the names of its columns",
        )
    if not all(map(is_unicode, names)):
        raise RecordError(f"{file}:{line}: the header is not UTF-8", hint="save it as UTF-8")
    wanted = None if columns is None else {*columns, *(one.partition(".")[0] for one in columns)}
    for name in names:
        if names.count(name) > 1 and (wanted is None or name in wanted):
            raise RecordError(
                f"{file}:{line}: {names.count(name)} columns are named {name!r}",
                hint="give each column a name of its own",
            )
    return names


def _record(names: list[str], cells: list[str]) -> dict[str, str] | Broken:
    if len(cells) != len(names):
        message = f"{len(cells)} cells for {len(names)} columns"
        if len(cells) > len(names):
            message += "; text that holds commas or quotes belongs in quotes"
        return Broken("bad-csv", message)
    if not all(map(is_unicode, cells)):
        return Broken("bad-csv", "not UTF-8 text")
    return dict(zip(names, cells, strict=True))


class _Counted:
    """Lines and how many were taken; the reader's own count lacks the line that is broken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.count = 0

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.count += 1
        return line
