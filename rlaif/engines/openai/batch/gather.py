"""Gathering: requests that come one by one become files, by size or by time."""

import asyncio
from collections.abc import Callable

from rlaif.engines.openai.options import BatchOptions

Send = Callable[[dict[str, bytes]], None]
"""Takes what was gathered: id to line, in order."""


class Gatherer:
    """Hands requests on when they fill a batch, when no more come, or after the longest wait.

    Args:
        options: How large, and how long.
        send: Called with each batch, from the event loop.
    """

    def __init__(self, options: BatchOptions, send: Send) -> None:
        self._options = options
        self._send = send
        self._lines: dict[str, bytes] = {}
        self._bytes = 0
        self._first = self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, custom_id: str, line: bytes) -> None:
        """Take a request whose id is not among those here."""
        options, now = self._options, asyncio.get_running_loop().time()
        if self._bytes + len(line) > options.max_bytes:
            self._flush()
        if not self._lines:
            self._first = now
        self._last = now
        self._lines[custom_id] = line
        self._bytes += len(line)
        if len(self._lines) >= options.max_requests:
            self._flush()
        elif self._timer is None:
            self._arm()

    def clear(self) -> None:
        """Forget everything."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._lines, self._bytes = {}, 0

    def _due(self) -> float:
        return min(self._last + self._options.quiet_s, self._first + self._options.max_wait_s)

    def _arm(self) -> None:
        due = self._due()
        self._timer = asyncio.get_running_loop().call_at(due, self._flush_if_due, due)

    def _flush_if_due(self, expected: float) -> None:
        self._timer = None
        if self._lines and self._due() > expected:  # more came meanwhile
            self._arm()
        else:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            lines, self._lines, self._bytes = self._lines, {}, 0
            self._send(lines)
