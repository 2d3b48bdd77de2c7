"""Tables to records, a thousand rows in memory at most: CSV, Parquet and Arrow.

A row of CSV that has not one cell for each column is broken, at its first line.
"""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.errors import RecordError
from rlaif.inputs.files import Broken, Numbered, is_unicode

_ROWS = 1024
_BUFFER = 1 << 20

_FIELD = 1 << 24
"""Maximum characters of a field: an unclosed quote must not read the whole file into memory."""


def read_csv(
    raw: BinaryIO, name: str, columns: Sequence[str] | None, delimiter: str = ","
) -> Iterator[Numbered]:
    """Yield the rows with their first lines.

    Raises:
        RecordError: The header names no columns, or one of ``columns`` twice.
    """
    csv.field_size_limit(max(_FIELD, csv.field_size_limit()))
    # Invalid UTF-8 becomes lone surrogates, so that one bad record does not end the file.
    with io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Counted(text)
        rows = _csv_rows(lines, delimiter)
        header = next(rows, None)
        if header is None:
            return
        names = _check_header(header, name, columns)
        for line, cells in rows:
            yield line, cells if isinstance(cells, Broken) else _csv_record(names, cells)


def _csv_rows(lines: "_Counted", delimiter: str) -> Iterator[tuple[int, list[str] | Broken]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
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
        return f"a quote opened in this line is never closed; it swallows lines {start} to {end}"
    return problem if end == start else f"{problem} (in lines {start} to {end})"


def _check_header(
    header: tuple[int, list[str] | Broken], file: str, columns: Sequence[str] | None
) -> list[str]:
    line, names = header
    if isinstance(names, Broken):
        raise RecordError(f"{file}:{line}: the header cannot be read: {names.message}")
    if not any(name.strip() for name in names):
        raise RecordError(
            f"{file}:{line}: the header names no columns",
            hint="the first line of a CSV file must contain the names of its columns",
        )
    if not all(map(is_unicode, names)):
        raise RecordError(f"{file}:{line}: the header is not UTF-8", hint="save it as UTF-8")
    used = None if columns is None else {*columns, *(name.partition(".")[0] for name in columns)}
    _check_names(names, used, f"{file}:{line}")
    return names


def _csv_record(names: list[str], cells: list[str]) -> dict[str, str] | Broken:
    if len(cells) != len(names):
        message = f"{len(cells)} cells for {len(names)} columns"
        if len(cells) > len(names):
            message += "; put text with commas, tabs or quotes in quotes"
        return Broken("bad-csv", message)
    if not all(map(is_unicode, cells)):
        return Broken("bad-csv", "not UTF-8 text")
    return dict(zip(names, cells, strict=True))


class _Counted:
    """Counts the lines read; the count of `csv.reader` lacks an invalid line."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.count = 0

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.count += 1
        return line


def read_parquet(raw: BinaryIO, name: str, columns: Sequence[str] | None) -> Iterator[Numbered]:
    """Yield the rows, numbered from 1; of these columns those that exist, if the first does.

    Arrow's threads are off: one that is still reading at exit makes the process hang.
    """
    with open_parquet(raw, name) as table:
        used = _used(table.schema_arrow.names, name, columns)
        yield from _rows(table.iter_batches(batch_size=_ROWS, columns=used, use_threads=False))


def open_parquet(raw: BinaryIO, name: str) -> pq.ParquetFile:
    """Open a Parquet file and read its footer.

    Raises:
        RecordError: The footer cannot be read.
    """
    try:
        return pq.ParquetFile(raw, buffer_size=_BUFFER)
    except (pa.ArrowInvalid, OSError) as problem:
        why = str(problem).partition("\n")[0]
        hint = "" if raw.seekable() else "unpack it first; a Parquet file is compressed inside"
        raise RecordError(f"{name}: not a readable Parquet file: {why}", hint=hint) from None


def read_arrow(raw: BinaryIO, name: str, columns: Sequence[str] | None) -> Iterator[Numbered]:
    """Yield the rows of an Arrow file, as `read_parquet`."""
    names, batches = open_arrow(raw, name)
    used = _used(names, name, columns)
    parts = (
        batch.slice(start, _ROWS) for batch in batches for start in range(0, batch.num_rows, _ROWS)
    )
    yield from _rows(part if used is None else part.select(used) for part in parts)


def open_arrow(raw: Any, name: str) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """Return columns and parts of Arrow IPC, as a stream (which `datasets` writes) or as a file.

    Raises:
        RecordError: It is neither.
    """
    file = raw.read(6) == b"ARROW1"
    raw.seek(0)
    try:
        if file:
            opened = pa.ipc.open_file(raw)
            batches = (opened.get_batch(i) for i in range(opened.num_record_batches))
        else:
            batches = opened = pa.ipc.open_stream(raw)
    except (pa.ArrowInvalid, OSError) as problem:
        why = str(problem).partition("\n")[0]
        raise RecordError(f"{name}: not a readable Arrow file: {why}") from None
    return opened.schema.names, batches


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[Numbered]:
    number = 0
    for batch in batches:
        for record in _values(batch):
            number += 1
            yield number, record


def _values(batch: pa.RecordBatch) -> list[Any]:
    """Return the rows of a batch; a row that Python cannot represent becomes a `Broken`."""
    try:
        rows: list[Any] = batch.to_pylist(maps_as_pydicts="strict")
    except (KeyError, ValueError, OverflowError, pa.ArrowException) as problem:
        if batch.num_rows > 1:
            return [row for at in range(batch.num_rows) for row in _values(batch.slice(at, 1))]
        why = "not UTF-8 text" if isinstance(problem, UnicodeDecodeError) else str(problem)
        return [Broken("bad-value", why.partition("\n")[0])]
    return [{name: drop_nulls(value) for name, value in row.items()} for row in rows]


def drop_nulls(value: Any) -> Any:
    """Leave out null fields: a table has every field of a struct in every row."""
    if isinstance(value, dict):
        return {key: drop_nulls(item) for key, item in value.items() if item is not None}
    return list(map(drop_nulls, value)) if isinstance(value, list) else value


def _used(names: list[str], file: str, columns: Sequence[str] | None) -> list[str] | None:
    """Return the columns to read; all if the first is missing, so that messages can list them."""
    used = None
    if columns is not None:
        used = [name if name in names else name.partition(".")[0] for name in columns]
    _check_names(names, used, file)
    return sorted({*used} & {*names}) if used and used[0] in names else None


def _check_names(names: list[str], used: Collection[str] | None, place: str) -> None:
    for name in names:
        if names.count(name) > 1 and (used is None or name in used):
            raise RecordError(
                f"{place}: {names.count(name)} columns are named {name!r}",
                hint="give each column its own name",
            )
