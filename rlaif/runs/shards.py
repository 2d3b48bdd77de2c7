"""Shards: immutable Parquet files of rows. What is in them is the progress of a run.

A shard is whole or not there (`rlaif.runs.files`), its rows are sorted by id, and its name sorts by
the time of writing. Every writer, in whatever process, writes its own files; of a row that two
writers made, the one written first counts. Rows that were made again, because calls behind them had
failed, are in shards named ``again-N-…``: of those the highest N counts, and what they supersede
stays on the disk. Pages carry checksums, so that damage is noticed rather than read.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.errors import RunError, RunMismatch
from rlaif.records import Choice, Failure, Row
from rlaif.runs.files import list_whole, open_whole, write_whole
from rlaif.runs.ids import IdSet
from rlaif.runs.schema import (
    NUMBER_KEY,
    ROW_SCHEMA,
    RUN_KEY,
    SCHEMA_NUMBER,
    row_from_dict,
    rows_to_batch,
    schema_of,
)

_SUFFIX = ".parquet"
_AGAIN = "again-"
_GROUP_ROWS = 512
"""Rows a reader holds at once."""

_PORTION_ROWS = 128
_SHARDS_AT_ONCE = 64


def write_shard(
    directory: Path, rows: Sequence[Row], *, run: str, supersedes: bool = False
) -> Path:
    """Write rows as one new shard, durable when this returns.

    Args:
        directory: The run's ``shards`` folder; must exist.
        rows: At least one, ids differing.
        run: Label of the run, kept in the file.
        supersedes: Whether these rows count in place of earlier ones with the same ids. Only the
            one writer that holds the lock may say so.

    Raises:
        RunError: The disk is full, read-only, or another error; no file is left behind.
    """
    ordered = sorted(rows, key=lambda row: row.id)
    number, schema = schema_of(ordered)
    # In portions, because pyarrow lets no other thread run while it converts one.
    batches = [
        rows_to_batch(ordered[start : start + _PORTION_ROWS], schema)
        for start in range(0, len(ordered), _PORTION_ROWS)
    ]
    marks = {NUMBER_KEY: str(number), RUN_KEY: run}
    table = pa.Table.from_batches(batches, schema).replace_schema_metadata(marks)
    sink = pa.BufferOutputStream()
    # Without dictionaries: ids and texts hardly repeat, and zstd finds what does.
    pq.write_table(
        table,
        sink,
        row_group_size=_GROUP_ROWS,
        compression="zstd",
        use_dictionary=False,
        write_page_checksum=True,
    )
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    prefix = f"{_AGAIN}{_last_again(directory) + 1:06d}-" if supersedes else ""
    path = directory / f"{prefix}{now}-{secrets.token_hex(4)}{_SUFFIX}"
    write_whole(path, memoryview(sink.getvalue()))
    return path


def shard_paths(directory: Path) -> list[Path]:
    """Every shard, oldest first; those that supersede others come last."""
    return list_whole(directory, _SUFFIX)


def read_rows(
    directory: Path, parts: Sequence[str] | None = None, *, without: IdSet | None = None
) -> Iterator[Row]:
    """Yield every row once, in its newest form, a few hundred at a time in memory.

    Args:
        directory: The run's ``shards`` folder.
        parts: Read only these fields of a row, such as ``responses``; the others are empty. The
            prompt always comes along. All when None.
        without: Ids of rows to leave out.

    Raises:
        RunError: A shard is damaged; with its name and the fix.
        RunMismatch: A shard was written by a newer version.
    """
    columns = None if parts is None else ["prompt", *parts]
    empty = dict.fromkeys(ROW_SCHEMA.names, ())
    for batch in read_batches(directory, columns, without=without):
        for fields in batch.to_pylist():
            yield row_from_dict(empty | fields)


def read_batches(
    directory: Path, columns: Sequence[str] | None = None, *, without: IdSet | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield record batches in which every row id occurs once over all shards.

    Args:
        directory: The run's ``shards`` folder.
        columns: Only these, as Parquet paths such as ``pairs.list.element.margin``; ``id`` always
            comes along. All when None.
        without: Ids of rows to leave out.

    Raises:
        RunError: A shard is damaged.
        RunMismatch: A shard was written by a newer version.
    """
    shards = Shards(directory, without=without)
    for path in shards.paths:
        yield from shards.read(path, columns)


class Shards:
    """All shards of a run, each read once, so that every row id occurs once, in its newest form.

    Args:
        directory: The run's ``shards`` folder.
        without: Ids of rows to leave out.

    Attributes:
        paths: To be read in this order: oldest first, then what supersedes, newest first.
        left_out: How many rows of ``without`` were met so far.
    """

    def __init__(self, directory: Path, *, without: IdSet | None = None) -> None:
        every = shard_paths(directory)
        self._again = [path for path in reversed(every) if _is_again(path)]
        self.paths = [*(path for path in every if not _is_again(path)), *self._again]
        self._without = without
        self._seen = IdSet()
        self._superseded: IdSet | None = None
        self.left_out = 0

    def read(self, path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """Yield the record batches of one shard without rows that count elsewhere.

        Raises:
            RunError: The shard is damaged.
            RunMismatch: The shard was written by a newer version.
        """
        superseded = self._superseded_ids() if self._again and not _is_again(path) else ()
        seen, without = self._seen, self._without
        for batch in _batches(path, None if columns is None else ["id", *columns]):
            fresh = [
                (row_id not in superseded) and seen.add(row_id) for row_id in _ids(path, batch)
            ]
            if without:
                ids = zip(fresh, _ids(path, batch), strict=True)
                kept = [new and row_id not in without for new, row_id in ids]
                self.left_out += sum(fresh) - sum(kept)
                fresh = kept
            yield batch if all(fresh) else batch.filter(pa.array(fresh, pa.bool_()))

    def _superseded_ids(self) -> IdSet:
        """The ids in shards that supersede others; a damaged one supersedes nothing."""
        if self._superseded is None:
            self._superseded = IdSet()
            for start in range(0, len(self._again), _SHARDS_AT_ONCE):
                paths = self._again[start : start + _SHARDS_AT_ONCE]
                self._superseded.update(_all_readable_ids(paths))
        return self._superseded


class Unfinished(NamedTuple):
    """What is known of a row that holds failed calls."""

    failures: int
    """A digest of them."""

    made: tuple[int, int]
    """How many responses and verdicts it has."""


def failed_rows(directory: Path) -> dict[bytes, Unfinished]:
    """Return the ids of rows that hold failed calls, with what they have.

    Raises:
        RunError: A shard is damaged.
        RunMismatch: A shard was written by a newer version.
    """
    found: dict[bytes, Unfinished] = {}
    verdict = "judgments.list.element.verdicts.list.element.choice"
    for batch in read_batches(directory, ["failures", "responses.list.element.id", verdict]):
        for fields in batch.to_pylist():
            if fields["failures"]:
                failures = digest_failures(Failure(**one) for one in fields["failures"])
                verdicts = (one for each in fields["judgments"] for one in each["verdicts"])
                decided = sum(one["choice"] != Choice.ABSTAIN.value for one in verdicts)
                made = len(fields["responses"]), decided
                found[bytes.fromhex(fields["id"])] = Unfinished(failures, made)
    return found


def count_made(row: Row) -> tuple[int, int]:
    """Return how many responses and verdicts a row has."""
    verdicts = (one for judgment in row.judgments for one in judgment.verdicts)
    return len(row.responses), sum(one.choice is not Choice.ABSTAIN for one in verdicts)


def digest_failures(failures: Iterable[Failure]) -> int:
    """Return a number that differs when other calls failed, or failed otherwise."""
    return hash(tuple(sorted((f.stage, f.record_id, f.kind, f.message) for f in failures)))


def _last_again(directory: Path) -> int:
    """The number of the newest shard that supersedes others; 0 for none."""
    names = (path.name for path in shard_paths(directory) if _is_again(path))
    return max((int(name.split("-")[1]) for name in names), default=0)


def _is_again(path: Path) -> bool:
    return path.name.startswith(_AGAIN)


def hold_tools(directory: Path) -> bool:
    """Whether a prompt calls or defines tools, according to the schemas of the shards.

    Raises:
        RunError: A shard is damaged.
        RunMismatch: A shard was written by a newer version.
    """
    for path in shard_paths(directory):
        try:
            with open_whole(path) as source, _open(path, source) as file:
                if file.schema_arrow.field("prompt").type != ROW_SCHEMA.field("prompt").type:
                    return True
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, str(error).strip().partition("\n")[0]) from error
    return False


def done_ids(directory: Path) -> IdSet:
    """Ids of all rows, reading no other column.

    Raises:
        RunError: A shard is damaged.
        RunMismatch: A shard was written by a newer version.
    """
    done = IdSet()
    paths = shard_paths(directory)
    for start in range(0, len(paths), _SHARDS_AT_ONCE):
        done.update(_all_ids(paths[start : start + _SHARDS_AT_ONCE]))
    return done


def listed_prompts(directory: Path) -> Iterator[tuple[bytes, str]]:
    """Yield the ids of all rows and of their prompts, those that were superseded twice or more."""
    for path in shard_paths(directory):
        for batch in _batches(path, ["id", "prompt.id"]):
            prompts = batch.column("prompt").field("id").to_pylist()
            yield from zip(_ids(path, batch), prompts, strict=True)


def _all_ids(paths: Sequence[Path]) -> bytes:
    ids = (_ids(path, batch) for path in paths for batch in _batches(path, ["id"]))
    return b"".join(chain.from_iterable(ids))


def _all_readable_ids(paths: Sequence[Path]) -> bytes:
    try:
        return _all_ids(paths)
    except RunError:
        if len(paths) == 1:
            return b""
        return b"".join(_all_readable_ids([path]) for path in paths)


def _batches(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    try:
        with open_whole(path) as source, _open(path, source) as file:
            yield from file.iter_batches(batch_size=_GROUP_ROWS, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error).strip().partition("\n")[0]) from error


def _open(path: Path, source: pa.NativeFile) -> pq.ParquetFile:
    file = pq.ParquetFile(source, page_checksum_verification=True)
    marks: dict[bytes, bytes] = file.schema_arrow.metadata or {}
    number = marks.get(NUMBER_KEY.encode(), b"").decode(errors="replace")
    if not number.isdecimal():
        raise _damaged(path, "not a shard of a run")
    if int(number) > SCHEMA_NUMBER:
        raise RunMismatch(
            f"{path}: written by a newer version (schema {number}, this one has {SCHEMA_NUMBER})",
            hint="pip install --upgrade constitutional-rlaif",
        )
    return file


def _ids(path: Path, batch: pa.RecordBatch) -> Iterator[bytes]:
    try:
        yield from map(bytes.fromhex, batch.column("id").to_pylist())
    except (TypeError, ValueError, KeyError) as error:
        raise _damaged(path, f"a row has no readable id ({error})") from error


def _damaged(path: Path, why: str) -> RunError:
    return RunError(
        f"{path}: damaged shard: {why}",
        hint=f"mv {quote(str(path))} {quote(f'{path}.damaged')} and repeat the command: "
        "its rows are made again from the ledger at no cost",
    )
