"""What the killed processes of `test_crash` do: make rows of a run until somebody stops them."""

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlaif.records import Response, Row
from rlaif.runs import RunWriter, writer as writer_module
from rlaif.runs.ledger import ledger
from tests.runs.made import make_entry, make_key, make_manifest, make_row

CALLS = 3
"""Per row."""


def make_rows(rows: int, run: Path, asked: Path, safe: Path) -> None:
    """Make every missing row from calls that are asked once; note both outside the run.

    Args:
        rows: How many the run is to have.
        run: The run directory.
        asked: A file that gets the number of every call that had to be asked.
        safe: A file that gets the ids of rows after each flush that promised they are durable.
    """
    asking = os.open(asked, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    promising = os.open(safe, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with RunWriter(run, make_manifest(), rows_per_shard=9) as writer:
        waiting = []
        for number in range(rows):
            row_id = make_row(number).id
            if bytes.fromhex(row_id) in writer.done_ids():
                continue
            texts = [_ask(writer, number * CALLS + call, asking) for call in range(CALLS)]
            writer.add_row(make_made_row(number, texts))
            waiting.append(row_id)
            if number % 20 == 0:
                writer.flush()
                os.write(promising, "".join(f"{one}\n" for one in waiting).encode())
                waiting.clear()


def _ask(writer: RunWriter, call: int, asking: int) -> str:
    entry = writer.ledger.get(make_key(call))
    if entry is None:
        os.write(asking, f"{call}\n".encode())
        entry = make_entry(call, text=f"answer {call}")
        writer.ledger.put(entry)
    return str(entry.reply["text"])


def make_made_row(number: int, texts: list[str]) -> Row:
    """The row that the answers of a prompt determine."""
    responses = tuple(
        Response.build(f"p{number}", text, index=index) for index, text in enumerate(texts)
    )
    return make_row(number, responses=responses, judgments=(), pairs=())


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tear_and_die(descriptor: int) -> None:
    """Leave half of what was written, as a power failure before the sync may."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    die()


POINTS: dict[str, tuple[Any, str, Callable[..., None] | None, Callable[..., None] | None]] = {
    "before a commit": (ledger, "write_calls", die, None),
    "after a commit": (ledger, "write_calls", None, die),
    "before a shard": (writer_module, "write_shard", die, None),
    "after a shard": (writer_module, "write_shard", None, die),
    "before failures": (writer_module, "append_failures", die, None),
    "before the sync of a file": (os, "fsync", tear_and_die, None),
    "before a rename": (Path, "replace", die, None),
    "after a rename": (Path, "replace", None, die),
}
"""Where to die: a function by module and name, and what happens before or after it."""


def make_rows_and_die(point: str, count: int, *arguments: Any) -> None:
    """The same as `make_rows`, but dying at the ``count``-th time a point is reached."""
    module, name, before, after = POINTS[point]
    function, reached = getattr(module, name), 0

    def wrapped(*given: Any, **named: Any) -> Any:
        nonlocal reached
        reached += 1
        if reached == count and before is not None:
            before(*given)
        result = function(*given, **named)
        if reached == count and after is not None:
            after(*given)
        return result

    setattr(module, name, wrapped)
    make_rows(*arguments)
