"""Reading prompts: JSONL, JSON, CSV, Parquet or a Hugging Face data set, one record at a time.

A broken record is a `Failure` with its file and line; a file that cannot be read at all is an
exception before anything starts. Memory does not grow with the file, but for 16 bytes a prompt that
notice ids given twice.
"""

import codecs
import csv
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import EngineMissing, RecordError
from rlaif.records import Failure, Prompt, content_id
from rlaif.runs.ids import IdSet

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Where prompts come from and which columns hold what. Exactly one of ``path`` and ``hub``."""

    path: Path | None = None
    hub: str | None = None
    split: str = "train"
    column: str = "prompt"
    id_column: str | None = None
    tags_column: str | None = None
    tags: tuple[str, ...] = ()
    limit: int | None = None


def read_prompts(source: PromptSource) -> Iterator[Prompt | Failure]:
    """Yield every prompt of the source, and a `Failure` for every record that is none.

    An id given twice is a failure the second time: rows are known by their ids.

    Raises:
        RecordError: No such file, unknown kind of file, empty, not UTF-8, or the column is in
            none of the records read.
    """
    seen = IdSet()
    usable = broken = 0
    first: Failure | None = None
    for place, record in _records(source):
        if source.limit is not None and usable + broken >= source.limit:
            return
        item = _read(record, place, source)
        if isinstance(item, Prompt) and not seen.add(_mark(item)):
            message = f"the id {item.id!r} was given before"
            item = Failure("read", place, "duplicate-id", message)
        if isinstance(item, Failure):
            broken += 1
            first = first or item
        else:
            usable += 1
        yield item
    name = source.path or source.hub
    if usable == 0 and first is not None:
        raise RecordError(
            f"{name}: none of its {broken} records is a prompt; {first.record_id}: {first.message}",
            hint=f"each record needs {source.column!r}: text, or a list of chat messages",
        )
    if usable == 0:
        raise RecordError(f"{name}: the file is empty")


def _mark(prompt: Prompt) -> bytes:
    return bytes.fromhex(content_id("prompt-id", prompt.id))


def check_source(source: PromptSource) -> None:
    """Find out, before anything starts, whether the source can be read and holds a prompt.

    Raises:
        RecordError: As `read_prompts`; a whole file is checked for UTF-8, its records only until
            the first prompt.
    """
    if source.path is not None:
        _check_file(source.path)
    for item in read_prompts(source):
        if isinstance(item, Prompt):
            return


def _read(record: Any, place: str, source: PromptSource) -> Prompt | Failure:
    if isinstance(record, Failure):
        return record
    if not isinstance(record, Mapping):
        return Failure("read", place, "bad-record", f"expected an object, found {record!r:.60}")
    content = record.get(source.column)
    if content is None:
        found = ", ".join(sorted(map(str, record))) or "nothing"
        message = f"no {source.column!r} (found: {found:.200})"
        return Failure("read", place, "missing-column", message)
    given = None if source.id_column is None else record.get(source.id_column)
    if source.id_column is not None and (given is None or str(given) == ""):
        return Failure("read", place, "missing-id", f"no {source.id_column!r}")
    if not isinstance(content, str | Sequence):
        message = f"{source.column!r} is neither text nor a list of messages: {content!r:.60}"
        return Failure("read", place, "bad-prompt", message)
    try:
        return Prompt.build(
            content,
            id=None if given is None else str(given),
            tags=(*source.tags, *_tags(record, source)),
            source=place,
        )
    except ValueError as problem:
        return Failure("read", place, "bad-prompt", str(problem))


def _tags(record: Mapping[str, Any], source: PromptSource) -> tuple[str, ...]:
    value = None if source.tags_column is None else record.get(source.tags_column)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return tuple(tag.strip() for tag in value.split(",") if tag.strip())
    return tuple(str(tag) for tag in value)


def _records(source: PromptSource) -> Iterator[tuple[str, Any]]:
    if source.hub is not None:
        yield from _from_hub(source.hub, source.split)
        return
    path = source.path
    if path is None:
        raise RecordError("prompts: give a path or a hub data set")
    _check_file(path)
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from _from_jsonl(path)
        case ".json":
            yield from _from_json(path)
        case ".csv":
            yield from _from_csv(path)
        case ".parquet":
            yield from _from_parquet(path)
        case other:
            raise RecordError(
                f"{path}: unknown kind of file {other!r}",
                hint="use .jsonl, .json, .csv or .parquet",
            )


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".parquet":
                return
            decoder = codecs.getincrementaldecoder("utf-8")()
            size = 0
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
                size += len(chunk)
            decoder.decode(b"", final=True)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise RecordError(f"{path}: not UTF-8 text", hint="save the file as UTF-8") from None
    except OSError as problem:
        raise RecordError(f"{path}: cannot be read: {problem.strerror}") from None
    if size == 0:
        raise RecordError(f"{path}: the file is empty")


def _from_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not text.strip():
                continue
            place = f"{path.name}:{number}"
            try:
                yield place, orjson.loads(text)
            except orjson.JSONDecodeError as problem:
                yield place, Failure("read", place, "bad-json", f"not JSON: {problem}")


def _from_json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        data = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as problem:
        raise RecordError(f"{path}: not JSON: {problem}") from None
    if not isinstance(data, list):
        raise RecordError(f"{path}: expected a list of records", hint="or use .jsonl, one a line")
    for number, record in enumerate(data, start=1):
        yield f"{path.name}#{number}", record


def _from_csv(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        while True:
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as problem:
                place = f"{path.name}:{reader.line_num}"
                yield place, Failure("read", place, "bad-csv", str(problem))
                continue
            yield f"{path.name}:{reader.line_num}", record


def _from_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as problem:
        raise RecordError(f"{path}: not a readable Parquet file: {problem}") from None
    number = 0
    with file:
        for batch in file.iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                number += 1
                yield f"{path.name}#{number}", record


def _from_hub(name: str, split: str) -> Iterator[tuple[str, Any]]:
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise EngineMissing(
            "reading from the Hugging Face hub needs the datasets library",
            hint="pip install 'constitutional-rlaif[train]'",
        ) from None
    try:
        stream = datasets.load_dataset(name, split=split, streaming=True)
        for number, record in enumerate(stream, start=1):
            yield f"{name}/{split}#{number}", record
    except (OSError, ValueError) as problem:
        raise RecordError(f"{name} (split {split}): cannot be read: {problem}") from None


def count_records(source: PromptSource) -> int | None:
    """Count what `read_prompts` will yield, cheaply; None where that is not possible.

    For showing progress only. CSV and JSON count as unknown: counting them means reading them.
    """
    path = source.path
    count: int | None = None
    if path is not None and path.suffix.lower() in (".jsonl", ".ndjson"):
        with path.open("rb") as file:
            count = sum(1 for line in file if line.strip())
    elif path is not None and path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        count = pq.read_metadata(path).num_rows
    if source.limit is None or count is None:
        return count
    return min(count, source.limit)
