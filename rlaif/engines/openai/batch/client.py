"""The batch client: takes calls, follows their batches to the end, and hands the answers out.

A call is known by a hash of its content, which is its ``custom_id``. So a call that is asked again
by a later process meets the batch that an earlier one paid for, wherever that one broke off:

    gathered → prepared → uploaded → submitted → fetched      on the disk before the next step

A batch that was submitted just before a crash, its id unwritten, is found in the server's list by
the name it carries.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson

from rlaif.engines.openai.batch import wire
from rlaif.engines.openai.batch.folders import Kept, Place, load, prepare
from rlaif.engines.openai.batch.gather import Gatherer
from rlaif.engines.openai.batch.jobs import Jobs
from rlaif.engines.openai.endpoint import Endpoint
from rlaif.engines.openai.options import BatchOptions
from rlaif.engines.traffic.outcomes import (
    Failed,
    Outcome,
    Rejected,
    Success,
    Throttled,
    read_answer,
)
from rlaif.engines.traffic.transport import Answer
from rlaif.errors import CallFailed, EngineUnavailable
from rlaif.records import content_id

T = TypeVar("T")
log = logging.getLogger(__name__)

_AT_ONCE = 200
"""Answers handed out before others get a turn."""


class BatchClient:
    """Calls to one model through batches. Used from one event loop.

    Args:
        endpoint: The server.
        options: When to send, and how often to look.
        prefix: What the names of this engine's batches begin with; equal engines have the same.
        max_attempts: How many batches one call may go through.
    """

    def __init__(
        self, endpoint: Endpoint, options: BatchOptions, *, prefix: str, max_attempts: int
    ) -> None:
        self._endpoint = endpoint
        self._options = options
        self._prefix = prefix
        self._max_attempts = max_attempts
        self._jobs = Jobs(
            endpoint, window=options.completion_window, longest_pause_s=options.max_poll_s
        )
        self._root: Path | None = None
        self._passing: tempfile.TemporaryDirectory[str] | None = None
        self._taken_up = False
        self._taking_up = asyncio.Lock()
        self._queue = Gatherer(options, self._begin)
        self._waiting: dict[str, asyncio.Future[Answer | None]] = {}
        self._sent: set[str] = set()
        """Ids of requests that are in a batch under way."""

        self._unclaimed: dict[str, Place] = {}
        """Good answers not asked for yet: paid for by an earlier process."""

        self._fetched: list[Kept] = []
        self._under_way: dict[str, tuple[int, int]] = {}
        """Batch to the number of its requests, and of those that are done."""

        self._left = asyncio.Event()
        """Set, and replaced, whenever a batch is no longer under way."""

        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: Exception | None = None
        """What a batch ended with. Nothing is asked after that: it might be paid twice."""

    def keep_in(self, root: Path) -> None:
        """Keep the batches in this folder, and take up those that are there."""
        self._root, self._taken_up = root, False

    def settle(self) -> None:
        """Forget the batches whose results are here: every answer was handed out."""
        for kept in self._fetched:
            kept.remove()
        self._fetched.clear()
        self._unclaimed.clear()

    def pending(self) -> str:
        """Say what is being waited for."""
        parts = []
        if self._under_way:
            count = sum(count for count, _ in self._under_way.values())
            done = sum(done for _, done in self._under_way.values())
            parts.append(f"{len(self._under_way)} batches, {done} of {count} done")
        if self._queue:
            parts.append(f"{len(self._queue)} gathered")
        return ", ".join(parts)

    async def chat(
        self,
        body: Mapping[str, Any],
        read: Callable[[dict[str, Any]], T],
        *,
        asked: Mapping[str, Any],
        seeds: Sequence[int],
    ) -> T | Rejected:
        """Ask for a chat completion, as `Endpoint.chat`; it may take a day.

        Args:
            body: As this server takes it, without the model.
            read: Makes the value from the reply, or raises `BadReply`.
            asked: The same before it was changed for the server: what the call is known by.
            seeds: What tells this call from another with the same body.
        """
        if not self._taken_up:
            await self._take_up()
        whole = self._endpoint.whole(body)
        try:
            custom_id = self._id_of(self._endpoint.whole(asked), whole, seeds)
            line = wire.request_line(custom_id, whole)
        except TypeError as problem:
            raise CallFailed(
                f"the request is not valid JSON: {problem}", kind="bad-request"
            ) from None
        failure = Failed("", "its batch ended before the request was begun")
        attempts = 0
        while attempts < self._max_attempts and not failure.final:
            attempts += 1
            answer = await self._answer(custom_id, line)
            if answer is None:
                continue
            outcome = self._read(answer, read)
            match outcome:
                case Success():
                    self._endpoint.worked()
                    return outcome.value
                case Rejected():
                    return outcome
                case Throttled():
                    failure = Failed("", outcome.words)
                case Failed():
                    failure = outcome
        words = self._endpoint.redact(f"{self._endpoint.urls[0]}: {failure.words}")
        if not failure.kind:  # says nothing about this call
            words = f"{words} ({self._max_attempts} batches)"
            raise EngineUnavailable(words, hint="repeat the command later to resume")
        raise CallFailed(words, kind=failure.kind, attempts=attempts)

    def _id_of(self, asked: Any, sent: Any, seeds: Sequence[int]) -> str:
        """Return what a call is known by: by what was asked, whatever the server was sent.

        Earlier versions took what was sent, so a batch of theirs is looked for as well.
        """
        ids = [content_id("batch", body, list(seeds)) for body in (asked, sent)]
        return next((one for one in ids if one in self._unclaimed or one in self._sent), ids[0])

    async def aclose(self) -> None:
        """Stop waiting; what was submitted is taken up by the next process."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for future in self._waiting.values():
            future.cancel()
        for remembered in (self._waiting, self._sent, self._queue, self._unclaimed, self._fetched):
            remembered.clear()
        if self._passing is not None:
            self._passing.cleanup()
            self._passing, self._root = None, None
        self._taken_up, self._broken = False, None

    # --- what earlier processes left

    async def _take_up(self) -> None:
        async with self._taking_up:
            if self._taken_up:
                return
            if self._root is None:
                self._passing = tempfile.TemporaryDirectory(prefix="rlaif-batches-")
                self._root = Path(self._passing.name)
            for kept in await asyncio.to_thread(load, self._root, self._prefix):
                await self._take_up_one(kept)
            self._taken_up = True

    async def _take_up_one(self, kept: Kept) -> None:
        if kept.known.results is not None:
            self._fetched.append(kept)
            for custom_id, answer, place in kept.results():
                if answer is not None and answer.status == 200:
                    self._unclaimed[custom_id] = place
            return
        if not kept.known.batch_id:
            found = await self._jobs.find(kept)
            if found is None:
                kept.remove()  # uploaded and never submitted: it cost nothing
                return
            kept.submitted(found.id)
        ids = await asyncio.to_thread(kept.ids)
        log.info("%s: found again, %d requests", kept.name, len(ids))
        self._start(ids, self._follow(kept, ids))

    # --- one call

    async def _answer(self, custom_id: str, line: bytes) -> Answer | None:
        """Return the answer from whichever batch has it; None when that ended without."""
        place = self._unclaimed.pop(custom_id, None)
        if place is not None:
            return place.read()
        if self._broken is not None:
            raise self._broken
        future = self._waiting.get(custom_id)
        if future is None:
            future = self._waiting[custom_id] = asyncio.get_running_loop().create_future()
            if custom_id not in self._sent:
                self._queue.add(custom_id, line)
        return await asyncio.shield(future)

    def _read(self, answer: Answer, read: Callable[[dict[str, Any]], T]) -> Outcome[T]:
        """Sort an answer, and book what it cost if it cannot be used."""
        outcome = read_answer(answer, read, time.time())
        if not isinstance(outcome, Success) and outcome.billed is not None:
            self._endpoint.note_wasted(outcome.billed)
        return outcome

    # --- one batch

    def _start(self, ids: Sequence[str], work: Coroutine[Any, Any, None]) -> None:
        """Do the work on a batch beside others; its callers get whatever error it ends with."""

        async def guarded() -> None:
            try:
                await work
            except Exception as problem:  # noqa: BLE001 - handed to the callers, now and later
                self._broken = self._broken or problem
                self._give(ids, problem)

        self._sent.update(ids)
        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _give(self, ids: Iterable[str], outcome: Answer | Exception | None) -> None:
        """Give the same to all of these callers; None sends them into another batch."""
        for custom_id in ids:
            self._sent.discard(custom_id)
            future = self._waiting.pop(custom_id, None)
            if future is None:
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
                future.exception()  # retrieved: perhaps no caller waits any more
            else:
                future.set_result(outcome)

    def _begin(self, lines: dict[str, bytes]) -> None:
        ids = list(lines)
        self._start(ids, self._prepare(ids, lines))

    async def _prepare(self, ids: Sequence[str], lines: dict[str, bytes]) -> None:
        assert self._root is not None
        kept = await asyncio.to_thread(prepare, self._root, self._prefix, lines.values())
        lines.clear()
        await self._follow(kept, ids)

    async def _follow(self, kept: Kept, ids: Sequence[str]) -> None:
        """Take a batch from wherever it is to its end, and hand its answers out."""
        try:
            if kept.state is None:
                kept.uploaded(await self._jobs.upload(kept))
            batch = await self._finished(kept, len(ids))
        finally:
            self._leave(kept)
        if batch.status == "failed":
            kept.remove()
            await self._blame(batch, ids)
        else:
            await self._jobs.fetch(kept, batch)
            self._fetched.append(kept)
            await self._hand_out(kept, batch, ids)

    async def _finished(self, kept: Kept, count: int) -> wire.Batch:
        """Submit if that is to be done, and wait for the end; again when there was no room."""
        assert self._root is not None
        while True:
            self._under_way[kept.name] = (count, 0)
            if not kept.known.batch_id:
                kept.submitted(await self._jobs.submit(kept, run=self._root.parent.name))
                log.info("%s: submitted, %d requests", kept.name, count)
            alone = len(self._under_way) == 1
            batch = await self._ended(kept, count)
            log.info("%s: %s, %d of %d done", kept.name, batch.status, batch.done, count)
            if not batch.no_room or alone:  # if alone, nothing of ours will make room
                return batch
            self._leave(kept)
            if self._under_way:
                await self._left.wait()
            kept.uploaded(kept.known.file_id)

    async def _ended(self, kept: Kept, count: int) -> wire.Batch:
        pause = self._options.poll_s
        while True:
            batch = await self._jobs.look(kept)
            self._under_way[kept.name] = (count, batch.done)
            if batch.ended:
                return batch
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, self._options.max_poll_s)

    def _leave(self, kept: Kept) -> None:
        self._under_way.pop(kept.name, None)
        self._left.set()
        self._left = asyncio.Event()

    async def _blame(self, batch: wire.Batch, ids: Sequence[str]) -> None:
        """Refuse the requests that made the batch fail, and send the others again."""
        blamed = {
            ids[one.line - 1]: one for one in batch.problems if one.line and one.line <= len(ids)
        }
        if not blamed:
            first = next(iter(batch.problems), wire.Problem("", "the batch failed", None))
            if batch.no_room:
                words = f"{first.words} (a batch of {len(ids)} requests; lower batch.max_requests)"
                first = wire.Problem(first.code, words, None)
            raise await self._jobs.failure(first)
        for custom_id, problem in blamed.items():
            error = {"error": {"code": problem.code, "message": problem.words}}
            self._give([custom_id], Answer(400, {}, orjson.dumps(error)))
        self._give((one for one in ids if one not in blamed), None)

    async def _hand_out(self, kept: Kept, batch: wire.Batch, ids: Sequence[str]) -> None:
        left = set(ids)
        for number, (custom_id, answer, place) in enumerate(kept.results()):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            if answer is None or custom_id not in left:
                continue
            left.discard(custom_id)
            if custom_id not in self._waiting and answer.status == 200:
                self._unclaimed[custom_id] = place
            self._give([custom_id], answer)
        if left and batch.status == "cancelled":
            problem = EngineUnavailable(
                f"the batch {batch.id} was cancelled with {len(left)} of {len(ids)} requests open",
                hint="what was finished is kept; repeat the command to submit the rest",
            )
            self._give(left, problem)
        else:
            self._give(left, None)
