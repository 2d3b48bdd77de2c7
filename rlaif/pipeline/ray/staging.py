"""Prompts on their way to workers of other processes: a Parquet file, for as long as they work."""

import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.records import Prompt
from rlaif.runs import RunWriter
from rlaif.runs.files import make_folder
from rlaif.runs.layout import Layout
from rlaif.runs.schema import TOOL_ROW_SCHEMA
from rlaif.sessions.concurrent import read_in_thread

_STAGED = pa.schema([TOOL_ROW_SCHEMA.field("prompt")])
_STAGED_ROWS = 4096


@asynccontextmanager
async def staged(
    prompts: Iterator[Prompt], writer: RunWriter
) -> AsyncIterator[tuple[str, Any] | None]:
    """Write prompts where workers can read them, and remove them in the end.

    Yields the path and its filesystem (None: a local one), or None when there are no prompts.
    """
    folder = Layout(writer.directory).staged
    name = f"{secrets.token_hex(4)}.parquet"
    make_folder(folder)
    count, left = 0, threading.Event()

    def stage() -> int:
        count = 0
        with pq.ParquetWriter(folder / name, _STAGED, compression="zstd") as file:
            while portion := _some(prompts):
                file.write_batch(pa.RecordBatch.from_pylist(portion, schema=_STAGED))
                count += len(portion)
        if count and writer.store is not None and not left.is_set():
            writer.store.upload(folder / name)
        return count

    try:
        count = await read_in_thread(stage)
        if not count:
            yield None
        elif writer.store is None:
            yield str(folder / name), None
        else:
            yield writer.store.staged(name)
    finally:
        left.set()
        (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
        if count and writer.store is not None:
            writer.store.remove_staged()


def _some(prompts: Iterator[Prompt]) -> list[dict[str, Any]]:
    some: list[dict[str, Any]] = []
    for prompt in prompts:
        fields = {"id": prompt.id, "messages": prompt.messages, "tags": prompt.tags}
        some.append({"prompt": fields})
        if len(some) == _STAGED_ROWS:
            break
    return some
