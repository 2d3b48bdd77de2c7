"""What waits for a worker: rows to decode, in order of arrival, and sequences to read.

Readings are batched by what a pass would cost: neighbours in token order share the longest
prefixes, and one more sequence is taken while reading it along is cheaper than reading it alone.
That weighs padding against shared prefixes, what a worker has just read, and the price of a pass,
and needs no tuning.
"""

import bisect
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlaif.engines.local.calls import GeneratedSequence, ScoreRequest
from rlaif.engines.local.forward import common_prefix

_CPU_CACHE_BYTES = 2 * 2**30
_GPU_CACHE_SHARE = 0.5  # of the memory that is free once the model is loaded
_FEWEST_TOKENS = 4096


@dataclass(slots=True)
class Limits:
    """Of one worker."""

    rows: int
    """Decoded together."""

    tokens: int
    """In the key-value cache: rows times the longest of them, its reply included."""

    prefill_tokens: int
    """Read in one forward pass, padding included; a longer prompt goes alone."""

    logits: int
    """Computed in one pass, in numbers: positions asked about times the vocabulary."""

    pass_cost: int
    """What a forward pass costs beyond its tokens, in tokens: batches grow while they save it."""

    def halve(self, rows: int) -> None:
        """Take on half of what was too much: so many rows."""
        self.rows = max(1, min(self.rows, rows) // 2)
        self.prefill_tokens = max(1, self.prefill_tokens // 2)


def choose_limits(
    model: Any, *, workers: int, max_batch: int | None, max_batch_tokens: int | None
) -> Limits:
    """Choose what each worker takes on: what the options say, else by device and memory.

    On a CPU small passes cost little more than their tokens, and 128 rows keep its cores busy; a
    GPU needs as many as it can get.
    """
    on_gpu = model.device.type == "cuda"
    if max_batch_tokens is None:
        free = torch.cuda.mem_get_info(model.device)[0] * _GPU_CACHE_SHARE if on_gpu else None
        spare = (free or _CPU_CACHE_BYTES) / workers
        max_batch_tokens = max(_FEWEST_TOKENS, int(spare / _bytes_per_token(model)))
    return Limits(
        rows=max_batch or (256 if on_gpu else 128),
        tokens=max_batch_tokens,
        prefill_tokens=min(16384 if on_gpu else 2048, max_batch_tokens),
        logits=2**28 if on_gpu else 2**26,
        pass_cost=2048 if on_gpu else 16,
    )


def _bytes_per_token(model: Any) -> int:
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return math.prod((2, config.num_hidden_layers, heads, size, model.dtype.itemsize))


_LONGEST_GATHERING = 20  # times the wait, however steadily calls keep coming


@dataclass(frozen=True, slots=True)
class NextBatch:
    """What a worker computes next: sequences to extend, or requests to score."""

    rows: Sequence[GeneratedSequence] = ()
    requests: Sequence[ScoreRequest] = ()


class Queue:
    """Shared by all workers of one engine; every method may be called from any thread.

    Args:
        workers: How many take from it: each takes its share of waiting rows.
        wait: Seconds without a new call after which an idle worker starts.
        vocabulary: Logits per position.
        shares_prefixes: Whether a common prefix is read once.
    """

    def __init__(
        self, *, workers: int, wait: float, vocabulary: int, shares_prefixes: bool
    ) -> None:
        self._workers = workers
        self._wait = wait
        self._vocabulary = vocabulary
        self._shares_prefixes = shares_prefixes
        self._changed = threading.Condition()
        self._rows: deque[GeneratedSequence] = deque()
        self._requests: list[ScoreRequest] = []
        self._arrivals: deque[ScoreRequest] = deque()
        self._last = 0.0
        self._closed = False

    def put(
        self, *, rows: Sequence[GeneratedSequence] = (), requests: Sequence[ScoreRequest] = ()
    ) -> bool:
        """Add work; return False if the queue is closed."""
        with self._changed:
            if self._closed:
                return False
            self._rows += rows
            self._arrivals += requests
            for request in requests:
                bisect.insort(self._requests, request, key=_ids)
            self._last = time.monotonic()
            self._changed.notify_all()
            return True

    def take(
        self, *, room: int, busy: bool, limits: Limits, kept: Sequence[int] = ()
    ) -> NextBatch | None:
        """Return what to do next; None once the queue is closed.

        Args:
            room: How many rows the worker would start now.
            busy: Whether it has other work: then nothing is waited for.
            limits: Of the worker.
            kept: Tokens it need not read again at the start of a sequence.
        """
        with self._changed:
            if not busy:
                self._gather(limits)
            if self._closed:
                return None
            self._forget()
            share = min(room, -(-len(self._rows) // self._workers))
            rows = [self._rows.popleft() for _ in range(share)]
            return NextBatch(rows, self._next_requests(limits, kept))

    def close(self) -> list[GeneratedSequence | ScoreRequest]:
        """Let all workers stop; return the work that was not taken."""
        with self._changed:
            self._closed = True
            left: list[GeneratedSequence | ScoreRequest] = [*self._rows, *self._requests]
            self._rows.clear()
            self._requests.clear()
            self._arrivals.clear()
            self._changed.notify_all()
            return left

    def _gather(self, limits: Limits) -> None:
        """Wait for work, then a little longer for more of it."""
        while not (self._closed or self._rows or self._requests):
            self._changed.wait()
        until = time.monotonic() + _LONGEST_GATHERING * self._wait
        while not self._closed and len(self._rows) < limits.rows * self._workers:
            quiet = min(self._last + self._wait, until) - time.monotonic()
            if quiet <= 0:
                break
            self._changed.wait(quiet)

    def _forget(self) -> None:
        """Drop work whose callers no longer wait."""
        if any(row.idle for row in self._rows):
            self._rows = deque(row for row in self._rows if not row.idle)
        if any(request.call.over for request in self._arrivals):
            self._arrivals = deque(r for r in self._arrivals if not r.call.over)
            self._requests = sorted(self._arrivals, key=_ids)

    def _next_requests(self, limits: Limits, kept: Sequence[int]) -> list[ScoreRequest]:
        """The oldest request and those of its neighbours that are cheaper read with it."""
        if not self._arrivals:
            return []
        oldest = self._arrivals[0]
        low = bisect.bisect_left(self._requests, oldest.ids, key=_ids)
        while self._requests[low] is not oldest:
            low += 1
        high = low + 1
        most_positions = limits.logits // self._vocabulary
        batch = _Batch(oldest, limits, most_positions, kept if self._shares_prefixes else None)
        while True:
            if high < len(self._requests) and batch.add(self._requests[high]):
                high += 1
            elif low > 0 and batch.add(self._requests[low - 1]):
                low -= 1
            else:
                break
        taken = self._requests[low:high]
        del self._requests[low:high]
        gone = {id(request) for request in taken}
        self._arrivals = deque(r for r in self._arrivals if id(r) not in gone)
        return taken


class _Batch:
    """Sequences of one pass, and what the pass costs, in tokens.

    ``kept`` need not be read again; None if nothing is ever shared.
    """

    def __init__(
        self, first: ScoreRequest, limits: Limits, most_positions: int, kept: Sequence[int] | None
    ) -> None:
        self._limits = limits
        self._most_positions = most_positions
        self._kept = kept or ()
        self._example = first.ids
        self._count = 1
        self._longest = len(first.ids)
        self._positions = len(first.ids) - first.first
        self._prefix = first.first if kept is not None else 0

    def add(self, request: ScoreRequest) -> bool:
        """Take one more sequence if that saves work and fits; return whether it did."""
        prefix = min(common_prefix(self._example, request.ids), request.first, self._prefix)
        longest = max(self._longest, len(request.ids))
        positions = self._positions + len(request.ids) - request.first
        tokens = self._tokens(self._count + 1, longest, prefix)
        together = tokens - self._tokens(self._count, self._longest, self._prefix)
        known = min(common_prefix(self._kept, request.ids), request.first)
        alone = self._limits.pass_cost + len(request.ids) - known
        if (
            together > alone
            or tokens > self._limits.prefill_tokens
            or positions > self._most_positions
        ):
            return False
        self._count, self._longest, self._prefix = self._count + 1, longest, prefix
        self._positions = positions
        return True

    def _tokens(self, count: int, longest: int, prefix: int) -> int:
        """Tokens to read for so many sequences: a shared prefix that is not cached counts once."""
        known = min(common_prefix(self._kept, self._example), prefix)
        return prefix - known + count * (longest - prefix)


def _ids(request: ScoreRequest) -> list[int]:
    return request.ids
