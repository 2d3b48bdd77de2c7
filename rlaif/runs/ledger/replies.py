"""Reply shards: raw replies as immutable Parquet files, where SQLite cannot be used.

Workers on many machines and runs in an object store keep their replies in ``replies/``. A record is
a call, with the fields of the ledger's table and its checksum. Files are whole or missing; names
sort by time and contain the writer. A ledger reads them beside its file, invisibly to callers.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.errors import RunError, RunMismatch
from rlaif.runs.files import list_whole, open_whole, write_whole
from rlaif.runs.ids import WIDTH
from rlaif.runs.ledger.entry import Account, Call, Sums

REPLIES_NUMBER = 1
"""Version in every file. Raise it with every change of the columns."""

NUMBER_KEY = "rlaif.replies"
SUFFIX = ".parquet"

_GROUP_ROWS = 256
"""Records of a row group, which are read together."""

_CACHED_GROUPS = 16
_RECENT = 65536
"""Keys kept in a dictionary before they are merged into the sorted array."""

_SCHEMA = pa.schema(
    {
        "key": pa.binary(WIDTH),
        "purpose": pa.string(),
        "engine": pa.string(),
        "reused": pa.bool_(),
        "reply": pa.binary(),
        "prompt_tokens": pa.int64(),
        "completion_tokens": pa.int64(),
        "cached_tokens": pa.int64(),
        "price": pa.float64(),
        "created": pa.float64(),
        "checksum": pa.int64(),
    }
)
_ACCOUNTING = [name for name in _SCHEMA.names if name not in ("reply", "created", "checksum")]


def write_replies(folder: Path, calls: Sequence[Call], *, writer: str) -> Path:
    """Write calls as one new shard, durable when this returns.

    Args:
        folder: The run's ``replies`` folder; must exist.
        calls: At least one, in order of the calls.
        writer: Name of the writer, which becomes part of the file name.

    Raises:
        RunError: The disk is full, read-only, or another error; no file is left behind.
    """
    columns = list(zip(*(call[: len(_SCHEMA)] for call in calls), strict=True))
    arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
    marks = {NUMBER_KEY: str(REPLIES_NUMBER)}
    table = pa.Table.from_arrays(arrays, schema=_SCHEMA).replace_schema_metadata(marks)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=_GROUP_ROWS,
        compression="zstd",
        use_dictionary=["purpose", "engine"],
        write_page_checksum=True,
    )
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    path = folder / f"{now}-{writer}-{secrets.token_hex(4)}{SUFFIX}"
    write_whole(path, memoryview(sink.getvalue()))
    return path


class ReplyShards:
    """Lookup in reply shards: 24 bytes a key in memory, replies on the disk.

    Methods may be called from any thread.

    Args:
        folder: The run's ``replies`` folder; it may be missing.
        writer: Read only the shards of this writer; all when empty.

    Raises:
        RunError: A shard is damaged; with its name and the fix.
        RunMismatch: A shard was written by a newer version.
    """

    def __init__(self, folder: Path, *, writer: str = "") -> None:
        self._folder = folder
        self._mark = f"-{writer}-" if writer else ""
        self._paths: list[Path] = []
        self._known: set[str] = set()
        self._keys: npt.NDArray[np.bytes_] = np.empty(0, dtype=f"S{WIDTH}")
        self._places: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._recent: dict[bytes, int] = {}
        self._groups: OrderedDict[tuple[int, int], list[Call]] = OrderedDict()
        self._lock = threading.RLock()
        self.accounts: dict[Account, Sums] = {}
        self.refresh()

    def __len__(self) -> int:
        return len(self._keys) + len(self._recent)

    def refresh(self) -> None:
        """Add new shards of all writers, the oldest first."""
        with self._lock:
            for path in list_whole(self._folder, SUFFIX):
                if self._mark in path.name and path.name not in self._known:
                    self.add(path)

    def add(self, path: Path, *, counted: bool = False) -> None:
        """Add one shard. The first of two replies to the same key counts.

        Args:
            path: The file.
            counted: The caller has counted its calls already.
        """
        with self._lock, _Shard(path) as shard:
            number, row = len(self._paths), 0
            for batch in shard.batches(_ACCOUNTING):
                if not counted:
                    self._count(batch)
                for key in batch.column("key").to_pylist():
                    if self._place(key) is None:
                        self._recent[key] = number << 32 | row
                    row += 1
            self._paths.append(path)
            self._known.add(path.name)
            if len(self._recent) > _RECENT:
                self._merge()

    def find(self, key: bytes) -> Call | None:
        """Look up one call."""
        if not len(self):
            return None
        with self._lock:
            place = self._place(key)
            if place is None:
                return None
            number, row = place >> 32, place & 0xFFFFFFFF
            return self._group(number, row // _GROUP_ROWS)[row % _GROUP_ROWS]

    def keys(self) -> bytes:
        """Return all keys, concatenated without separators."""
        with self._lock:
            return self._keys.tobytes() + b"".join(self._recent)

    def calls(self) -> Iterator[Call]:
        """Yield every call whose reply counts, shard by shard."""
        for number, path in enumerate(list(self._paths)):
            row = 0
            with _Shard(path) as shard:
                for batch in shard.batches(_SCHEMA.names):
                    for call in _calls(batch):
                        if self._place(call.key) == number << 32 | row:
                            yield call
                        row += 1

    def _place(self, key: bytes) -> int | None:
        recent = self._recent.get(key)
        if recent is not None:
            return recent
        keys = np.frombuffer(key, dtype=self._keys.dtype)
        at = int(self._keys.searchsorted(keys)[0])
        if at < len(self._keys) and self._keys[at] == keys[0]:
            return int(self._places[at])
        return None

    def _merge(self) -> None:
        keys = np.frombuffer(b"".join(self._recent), dtype=self._keys.dtype)
        places = np.fromiter(self._recent.values(), dtype=np.uint64, count=len(self._recent))
        keys, places = np.concatenate([self._keys, keys]), np.concatenate([self._places, places])
        order = keys.argsort(kind="stable")
        self._keys, self._places, self._recent = keys[order], places[order], {}

    def _group(self, number: int, group: int) -> list[Call]:
        """Return a decoded row group; the last few are cached, as neighbours are read together."""
        calls = self._groups.get((number, group))
        if calls is None:
            with _Shard(self._paths[number]) as shard:
                calls = self._groups[number, group] = shard.group(group)
            if len(self._groups) > _CACHED_GROUPS:
                self._groups.popitem(last=False)
        self._groups.move_to_end((number, group))
        return calls

    def _count(self, batch: pa.RecordBatch) -> None:
        for record in batch.to_pylist():
            call = Call(**record, reply=b"", created=0.0, checksum=0)
            self.accounts.setdefault(call.account, Sums()).add(call)


class _Shard:
    """One file open for reading; its errors have the file name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "_Shard":
        try:
            self._source = open_whole(self._path)
            self._file = pq.ParquetFile(self._source, page_checksum_verification=True)
            marks = self._file.schema_arrow.metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        number = marks.get(NUMBER_KEY.encode(), b"").decode(errors="replace")
        if not number.isdecimal():
            raise self._damaged("it contains no replies")
        if int(number) > REPLIES_NUMBER:
            raise RunMismatch(
                f"{self._path}: written by a newer version (replies {number}, this one supports "
                f"{REPLIES_NUMBER})",
                hint="pip install --upgrade constitutional-rlaif",
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._source.close()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._file.iter_batches(
                batch_size=_GROUP_ROWS, columns=columns, use_threads=False
            )
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def group(self, number: int) -> list[Call]:
        try:
            table = self._file.read_row_group(number, columns=_SCHEMA.names, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        return _calls(table)

    def _damaged(self, why: object) -> RunError:
        reason = str(why).strip().partition("\n")[0]
        return RunError(
            f"{self._path}: damaged reply shard: {reason}",
            hint=f"mv {quote(str(self._path))} {quote(f'{self._path}.damaged')} and repeat the "
            "command: finished rows are safe in their shards, only other calls are made again",
        )


def _calls(batch: pa.RecordBatch | pa.Table) -> list[Call]:
    return [Call(*values) for values in zip(*(c.to_pylist() for c in batch.columns), strict=True)]
