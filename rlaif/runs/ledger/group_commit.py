"""Group commit: one thread writes the calls of the event loop, many per transaction.

A commit costs a disk sync, for one call or two hundred. A call can be looked up at once, and is
durable within a quarter of a second.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from rlaif.errors import RunError
from rlaif.runs.ledger.entry import Call
from rlaif.runs.ledger.file import explain

GROUP_ROWS = 200
GROUP_SECONDS = 0.25
QUEUE_BYTES = 32 << 20
"""`GroupCommit.put` blocks while more bytes than this wait for the disk."""

_CALL_BYTES = 400
"""Approximate memory of a call besides its reply."""


class GroupCommit:
    """The only writer of a ledger. Methods may be called from any thread.

    After an error nothing more is written, and every further `put` and `flush` raises it.

    Args:
        write: Makes a group durable. Called from one thread, groups in order.
        path: The file or folder, for messages.
        rows: Calls in a full group.
        seconds: Maximum age of a smaller group.

    Attributes:
        pending: Calls that are not committed yet, by key.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Call]], None],
        path: Path,
        *,
        rows: int = GROUP_ROWS,
        seconds: float = GROUP_SECONDS,
    ) -> None:
        self.pending: dict[bytes, Call] = {}
        self._write = write
        self._path = path
        self._rows = rows
        self._seconds = seconds
        self._queue: deque[Call] = deque()
        self._queued_since = 0.0
        self._bytes = 0
        self._put = self._written = self._awaited = 0
        self._closing = False
        self._error: RunError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="rlaif-ledger", daemon=True)
        self._thread.start()

    def put(self, call: Call) -> None:
        """Add a call. Blocks only while more than `QUEUE_BYTES` wait for the disk.

        Raises:
            RunError: Writing failed, now or before.
        """
        with self._changed:
            if self._bytes > QUEUE_BYTES:
                self._changed.wait_for(lambda: self._bytes <= QUEUE_BYTES or self._error)
            self._check()
            self._queue.append(call)
            self.pending.setdefault(call.key, call)
            self._put += 1
            self._bytes += len(call.reply) + _CALL_BYTES
            if len(self._queue) == 1:
                self._queued_since = time.monotonic()
            if len(self._queue) in (1, self._rows):
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything put so far is on the disk.

        Raises:
            RunError: Writing failed; earlier commits are safe.
        """
        with self._changed:
            target = self._awaited = self._put
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._written >= target or self._error is not None)
            self._check()

    def close(self) -> None:
        """Write what is left, unless writing has failed, and end the thread. Safe to call twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise RunError(self._error.message, hint=self._error.hint)
        if self._closing:
            raise RunError(f"{self._path}: the ledger is closed")

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._write(group)
            except Exception as error:  # noqa: BLE001 - raised by the next put or flush
                known = error if isinstance(error, RunError) else explain(self._path, error)
                with self._changed:
                    self._error = known
                    self._changed.notify_all()
                return
            with self._changed:
                for call in group:
                    self.pending.pop(call.key, None)
                    self._bytes -= len(call.reply) + _CALL_BYTES
                self._written += len(group)
                self._changed.notify_all()

    def _next_group(self) -> list[Call]:
        """Wait for the next group and take it; an empty one means the end."""
        with self._changed:
            while not self._due():
                waiting = self._queued_since + self._seconds - time.monotonic()
                self._changed.wait(waiting if self._queue else None)
            group = [self._queue.popleft() for _ in range(min(len(self._queue), self._rows))]
            self._queued_since = time.monotonic()
            return group

    def _due(self) -> bool:
        if self._closing or len(self._queue) >= self._rows:
            return True
        if not self._queue:
            return False
        late = time.monotonic() >= self._queued_since + self._seconds
        return late or self._awaited > self._written
