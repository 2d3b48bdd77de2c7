"""From an open file to records, one at a time: JSONL, JSON, CSV, Parquet, Arrow.

Memory does not grow with the file: of a JSON list, too, only a part is in memory. A record that
cannot be read is a `Broken`; a file that is no such file is an exception.
"""

import codecs
import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from rlaif.errors import RecordError
from rlaif.inputs.files import InputFile
from rlaif.inputs.tables import open_arrow, open_parquet, read_arrow, read_parquet

_CHUNK = 1 << 20
_FIELD = 1 << 24
"""Characters of a CSV field at most: a quote that nobody closes must not take in the whole file."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read."""

    kind: str
    message: str


Numbered = tuple[int, Any]
"""A record and its place in the file from 1: a line in text files, else the how-manieth it is."""


def read_records(file: InputFile, columns: Collection[str] | None = None) -> Iterator[Numbered]:
    """Yield the records of one file with their places.

    Args:
        file: The file.
        columns: Read only these where the format can leave others out; all when None.

    Raises:
        RecordError: The file cannot be read or is not of its kind.
    """
    with file.open() as raw:
        yield from _READERS[str(file.kind)](raw, file.shown, columns)


def check_records(file: InputFile) -> bool:
    """Find out, before anything starts, whether a local file is sound.

    Text is read through. Of a Parquet file the footer is read, where every part is listed; of an
    Arrow file what stands before and behind each part.

    Returns:
        False when a file of text is empty.

    Raises:
        RecordError: It cannot be read, is cut off, is not UTF-8, or not of its kind.
    """
    if file.local is None:
        return True
    with file.open() as raw:
        if file.kind == "parquet":
            open_parquet(raw, file.shown).close()
            return True
        if file.kind == "arrow":
            # Mapped, so that the data itself is passed over.
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
            pass  # a list may break off anywhere
    return size > 0


def count_rows(file: InputFile) -> int | None:
    """Count the records of a local file, broken ones included; None where that is not cheap."""
    if file.local is None or file.codec is not None:
        return None
    if file.kind == "parquet":
        with file.open() as raw, open_parquet(raw, file.shown) as table:
            return int(table.metadata.num_rows)
    if file.kind == "jsonl":
        with file.open() as raw:
            return sum(1 for line in raw if line.strip())
    return None


def has_lines(file: InputFile) -> bool:
    """Whether places in it are lines."""
    return file.kind in ("jsonl", "csv")


def _from_jsonl(raw: BinaryIO, *_: Any) -> Iterator[Numbered]:
    for number, line in enumerate(raw, start=1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        try:
            yield number, orjson.loads(text)
        except orjson.JSONDecodeError as problem:
            yield number, Broken("bad-json", f"not JSON: {problem}")


def _from_json(raw: BinaryIO, name: str, *_: Any) -> Iterator[Numbered]:
    number = 0
    try:
        with io.TextIOWrapper(raw, encoding="utf-8-sig") as text:
            for item in _JsonItems(text):
                number += 1
                sound = _is_unicode(item)
                yield number, item if sound else Broken("bad-json", "half a character in a text")
    except UnicodeDecodeError:
        raise _not_utf8(name) from None
    except _NoListError:
        raise RecordError(
            f"{name}: expected a list of records", hint="or use .jsonl, one a line"
        ) from None
    except ValueError as problem:
        raise RecordError(f"{name}: not JSON, after {number} records: {problem}") from None


def _is_unicode(item: Any) -> bool:
    """Whether no text has a lone surrogate, which JSON can spell and nothing can write."""
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


class _NoListError(ValueError):
    """A JSON file whose content is no list."""


class _JsonItems:
    """The items of a JSON list, of which one part at a time is in memory."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def __iter__(self) -> Iterator[Any]:
        if self._next() != "[":
            raise _NoListError
        self._at += 1
        if self._next() != "]":
            yield self._item()
            while (mark := self._next()) == ",":
                self._at += 1
                yield self._item()
            if mark != "]":
                raise ValueError(f"expected a comma or the end of the list, found {mark!r}")
        self._at += 1
        if left := self._next():
            raise ValueError(f"something follows the list: {left!r}")

    def _more(self) -> bool:
        """Read on; at least as much as there is, so that a long item is not tried too often."""
        chunk = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + chunk, 0
        self._ended = not chunk
        return bool(chunk)

    def _next(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _item(self) -> Any:
        self._next()
        while True:
            try:
                item, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as problem:
                if not self._more():
                    raise ValueError(problem.msg) from None
                continue
            # What ends where the text ends may go on in the next part: a number, say.
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return item


def _from_csv(raw: BinaryIO, *_: Any) -> Iterator[Numbered]:
    csv.field_size_limit(max(_FIELD, csv.field_size_limit()))
    # What is not UTF-8 becomes lone surrogates, so that one bad record does not end the file.
    with io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Counted(text)
        reader = csv.DictReader(lines, strict=True)
        while True:
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as problem:
                yield lines.count, Broken("bad-csv", str(problem))
                continue
            sound = _is_utf8(record)
            yield lines.count, record if sound else Broken("bad-csv", "not UTF-8 text")


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


def _is_utf8(record: Mapping[Any, Any]) -> bool:
    try:
        "".join(value for value in record.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_utf8(name: str) -> RecordError:
    return RecordError(f"{name}: not UTF-8 text", hint="save the file as UTF-8")


_READERS: Mapping[str, Callable[[BinaryIO, str, Collection[str] | None], Iterator[Numbered]]] = {
    "jsonl": _from_jsonl,
    "json": _from_json,
    "csv": _from_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
