"""From an open file to records, one at a time: JSONL, JSON, CSV, TSV, Parquet, Arrow.

Memory does not grow with the file, JSON lists included. A record that cannot be read is a `Broken`;
a file that is damaged or has another format raises an error.
"""

import codecs
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa

from rlaif.errors import RecordError
from rlaif.inputs.files import InputFile, Numbered
from rlaif.inputs.json_values import JsonItems, NoListError, read_json
from rlaif.inputs.tables import open_arrow, open_parquet, read_arrow, read_csv, read_parquet

_CHUNK = 1 << 20


def read_records(file: InputFile, columns: Sequence[str] | None = None) -> Iterator[Numbered]:
    """Yield the records of one file with their places.

    Args:
        file: The file.
        columns: Read only these if the format allows it and the first exists (default: all).

    Raises:
        RecordError: The file cannot be read or has another format.
    """
    with file.open() as raw:
        yield from _READERS[str(file.kind)](raw, file.shown, columns)


def check_records(file: InputFile, columns: Sequence[str] | None = None) -> bool:
    """Check a local file before anything starts.

    Text is read to the end, of a Parquet file the footer, of an Arrow file the frame of each part.

    Args:
        file: The file.
        columns: Columns that will be read (default: all).

    Returns:
        False when a text file is empty.

    Raises:
        RecordError: It cannot be read, is cut off, not UTF-8, or has another format.
    """
    if file.local is None:
        return True
    with file.open() as raw:
        if file.kind == "parquet":
            open_parquet(raw, file.shown).close()
            return True
        if file.kind == "arrow":
            # Mapped, so that the data itself is not read.
            mapped = raw if file.codec or not raw.read(1) else pa.memory_map(file.path)
            for _ in open_arrow(mapped, file.shown)[1]:
                pass
            return True
        decoder = codecs.getincrementaldecoder("utf-8")()
        size = 0
        try:
            while chunk := raw.read(_CHUNK):
                decoder.decode(chunk)
                size += len(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise _not_utf8(file.shown) from None
    if size and file.kind == "json":
        for _ in read_records(file):
            pass  # a list may be cut off anywhere
    if size and file.kind in ("csv", "tsv"):
        next(read_records(file, columns), None)  # the header
    return size > 0


def count_rows(file: InputFile) -> int | None:
    """Count the records of a local file, broken ones included; None where that is expensive."""
    if file.local is None or file.codec is not None:
        return None
    if file.kind == "parquet":
        with file.open() as raw, open_parquet(raw, file.shown) as table:
            return int(table.metadata.num_rows)
    if file.kind == "jsonl":
        with file.open() as raw:
            return sum(1 for line in _lines(raw) if line.strip())
    return None


def has_lines(file: InputFile) -> bool:
    """Whether its records are numbered by lines."""
    return file.kind in ("jsonl", "csv", "tsv")


def _from_jsonl(raw: BinaryIO, *_: Any) -> Iterator[Numbered]:
    for number, line in enumerate(_lines(raw), start=1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if text.strip():
            yield number, read_json(text)


def _lines(raw: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines, whether they end in LF, CR LF or, as on old Macs, in CR alone."""
    for line in raw:
        if line.find(b"\r", 0, -2) < 0:
            yield line
        else:
            yield from line.splitlines()


def _from_json(raw: BinaryIO, name: str, *_: Any) -> Iterator[Numbered]:
    number = 0
    try:
        with io.TextIOWrapper(raw, encoding="utf-8-sig") as text:
            for item in JsonItems(text):
                number += 1
                yield number, item
    except UnicodeDecodeError:
        raise _not_utf8(name) from None
    except NoListError:
        raise RecordError(
            f"{name}: expected a list of records", hint="or use .jsonl with one record per line"
        ) from None
    except ValueError as problem:
        raise RecordError(f"{name}: invalid JSON after {number} records: {problem}") from None


def _not_utf8(name: str) -> RecordError:
    return RecordError(f"{name}: not UTF-8 text", hint="save the file as UTF-8")


_READERS: Mapping[str, Callable[[BinaryIO, str, Sequence[str] | None], Iterator[Numbered]]] = {
    "jsonl": _from_jsonl,
    "json": _from_json,
    "csv": read_csv,
    "tsv": partial(read_csv, delimiter="\t"),
    "parquet": read_parquet,
    "arrow": read_arrow,
}
