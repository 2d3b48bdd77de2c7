"""Tables to records, a thousand rows in memory at once: Parquet and Arrow."""

from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.errors import RecordError

_ROWS = 1024
_BUFFER = 1 << 20


def read_parquet(
    raw: BinaryIO, name: str, columns: Collection[str] | None
) -> Iterator[tuple[int, Any]]:
    """Yield the rows with their numbers from 1; only these columns, where all of them are there.

    No thread of Arrow's is used: one that is still reading when the process ends makes it hang.
    """
    with open_parquet(raw, name) as table:
        wanted = _wanted(table.schema_arrow.names, columns)
        yield from _rows(table.iter_batches(batch_size=_ROWS, columns=wanted, use_threads=False))


def open_parquet(raw: BinaryIO, name: str) -> pq.ParquetFile:
    """Open a Parquet file, which reads its footer.

    Raises:
        RecordError: It has none that can be read.
    """
    try:
        return pq.ParquetFile(raw, buffer_size=_BUFFER)
    except (pa.ArrowInvalid, OSError) as problem:
        why = str(problem).partition("\n")[0]
        raise RecordError(f"{name}: not a readable Parquet file: {why}") from None


def read_arrow(
    raw: BinaryIO, name: str, columns: Collection[str] | None
) -> Iterator[tuple[int, Any]]:
    """The same as `read_parquet`."""
    names, batches = open_arrow(raw, name)
    wanted = _wanted(names, columns)
    parts = (
        batch.slice(start, _ROWS) for batch in batches for start in range(0, batch.num_rows, _ROWS)
    )
    yield from _rows(part if wanted is None else part.select(wanted) for part in parts)


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


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, Any]]:
    number = 0
    for batch in batches:
        for record in batch.to_pylist():
            number += 1
            yield number, record


def _wanted(there: list[str], columns: Collection[str] | None) -> list[str] | None:
    """The columns to read; all when one is missing, so that messages can name what there is."""
    if columns is None:
        return None
    found = {one if one in there else one.partition(".")[0] for one in columns}
    return sorted(found) if found <= set(there) else None
