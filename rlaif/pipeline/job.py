"""One start of a run: what is there already, what is added, what is shown meanwhile."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rlaif.config import RunConfig
from rlaif.errors import EngineUnavailable, RlaifError, StoppedEarly
from rlaif.inputs import belongs, count_records, read_prompts
from rlaif.pipeline.build import Parts
from rlaif.pipeline.item import RENDER, never_rendered
from rlaif.pipeline.ray.desk import Done
from rlaif.records import REMOVED, Failure, Prompt, Row
from rlaif.runs import RunWriter
from rlaif.sessions.budget import Use, open_budget
from rlaif.sessions.concurrent import Interrupted, read_in_thread, run_all

_TICK_SECONDS = 0.5
_UNRENDERED = 20
"""So many prompts that no template can be filled in with, and no row, stop a run."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    total: int | None
    """Records in the input; None while it is not known."""

    rows: int
    """Rows in the run, earlier ones included."""

    failures: int
    asked: int
    """Model calls made since this start."""

    remembered: int
    """Replies that came from a ledger since this start."""

    price: float | None
    """Spent by the run, earlier starts included, as far as prices are known; None when none is."""

    rate: float
    """Prompts finished per second since this start."""

    budget: tuple[Use, ...] = ()
    """The limits of the run, and how much of them is used."""

    pending: tuple[str, ...] = ()
    """What engines wait for that takes long: batches, servers that are down or throttle."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dictionary."""
        return asdict(self)


OnProgress = Callable[[Progress], None]


class Job:
    """One start of a run: what is there already, what is added, what to show."""

    def __init__(
        self,
        settings: RunConfig,
        parts: Parts,
        writer: RunWriter,
        retry_failed: bool,
        on_progress: OnProgress | None,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._writer = writer
        self._budget = open_budget(settings.budget, writer.ledger.totals())
        self._work = parts.work(writer.ledger, self._budget)
        self._loop = asyncio.get_running_loop()
        self._unrendered: list[Failure] = []
        """Prompts that no template could be filled in with, while the run has no row."""

        self._stopped: RlaifError | None = None
        """Why nothing more begins; the first reason counts."""

        self._enough = asyncio.Event()
        """Set when what is in flight shall not take long any more."""

        self._on_progress = on_progress
        self._done = writer.done_ids()
        self._failed = set() if retry_failed else writer.failed_ids()
        self._misread = writer.misread_ids()
        """Failures of the input, as earlier starts found them, that this one has not met yet."""

        self._rows, self._failures = len(self._done), len(self._failed)
        self._finished = 0
        self._read = 0
        self._total: int | None = None
        self._started = time.monotonic()
        self._elsewhere = Done()
        """Sums over what other processes did."""

        self.spread: Callable[..., Coroutine[Any, Any, None]] | None = None
        """Works on prompts in other processes; None works on them in this one."""

    async def run(self) -> None:
        """Do what is missing.

        Raises:
            Interrupted: SIGINT or SIGTERM arrived; what was finished is written.
            RlaifError: Why the run cannot go on; likewise.
        """
        log = self._writer.log
        log("started", rows=self._rows, failures=self._failures)
        ticker = asyncio.create_task(self._tick())
        try:
            self._total = await read_in_thread(partial(count_records, self._parts.source))
            if self.spread is None:
                await run_all(
                    self._missing(),
                    self._one,
                    concurrency=self._settings.concurrency,
                    enough=self._enough,
                )
            else:
                await self._parts.aclose()
                await self.spread(self._missing_prompts(), take=self._take)
            self._raise_if_stopped()
            if self._unrendered:
                raise never_rendered(self._unrendered)
            self._mend()
            log("input", prompts=self._read)
            self._writer.flush()
            for engine in self._parts.recorded:
                engine.settle()
            log("finished", rows=self._rows, failures=self._failures, **self._counts())
        except Interrupted:
            self._writer.flush()
            log("interrupted", rows=self._rows, failures=self._failures)
            raise
        except RlaifError as problem:
            with suppress(RlaifError):
                self._writer.flush()
                log("stopped", error=problem.message)
            raise
        finally:
            self._enough.set()  # a reader that nobody waits for any more
            ticker.cancel()
            self._show()

    def _missing(self) -> Iterator[Prompt | Failure]:
        """Yield what is neither a row nor a failure yet. Runs in a reader thread."""
        try:
            yield from self._unfinished()
        except EngineUnavailable as problem:
            # Not raised here, which would cancel calls in flight.
            self._stopped = self._stopped or problem

    def _unfinished(self) -> Iterator[Prompt | Failure]:
        for item in read_prompts(self._parts.source):
            if self._stopped or self._enough.is_set():
                return
            self._read += 1
            if isinstance(item, Failure):
                self._misread.discard(item.record_id)
                if item.record_id not in self._failed:
                    yield item
            elif bytes.fromhex(self._work.row_id(item)) not in self._done and (
                item.id not in self._failed or item.id in self._misread
            ):
                yield item

    async def _one(self, item: Prompt | Failure) -> None:
        if self._stopped:
            return
        try:
            outcome = item if isinstance(item, Failure) else await self._work.row(item)
        except StoppedEarly as problem:
            # Not raised here, which would cancel others: they may finish without another call.
            self._stopped = self._stopped or problem
            return
        except EngineUnavailable as problem:
            # Nor here: other engines may be answering calls that are paid for.
            self._stopped = self._stopped or problem
            self._enough.set()
            return
        self._keep(outcome)

    def _missing_prompts(self) -> Iterator[Prompt]:
        """The same without failures, which need no work."""
        for item in self._missing():
            if isinstance(item, Failure):
                self._loop.call_soon_threadsafe(self._keep_read, item)
            else:
                yield item
        self._raise_if_stopped()

    def _keep_read(self, failure: Failure) -> None:
        """Keep what the reading thread came upon."""
        try:
            if not self._enough.is_set():
                self._keep(failure)
        except RlaifError as problem:
            self._stopped = self._stopped or problem

    def _take(self, done: Done) -> None:
        """Take what other processes did."""
        outcomes: list[Row | Failure] = [*done.rows, *done.failures]
        for outcome in outcomes:
            self._keep(outcome)
        if self._budget is not None:
            self._budget.add(done.spent)
        sums = self._elsewhere
        sums.asked = dict(Counter(sums.asked) + Counter(done.asked))
        sums.remembered = dict(Counter(sums.remembered) + Counter(done.remembered))
        sums.spent += done.spent
        if self._stopped is not None:
            raise self._stopped

    def _keep(self, outcome: Row | Failure) -> None:
        if isinstance(outcome, Failure) and outcome.stage == RENDER and not self._rows:
            # Kept once there is a row: before that it may be the template, not the prompt.
            self._unrendered.append(outcome)
            if len(self._unrendered) == _UNRENDERED:
                self._stopped = self._stopped or never_rendered(self._unrendered)
            return
        if isinstance(outcome, Failure):
            if outcome.stage == REMOVED:
                self._log_removed(outcome)
            self._writer.add_failure(outcome)
            self._misread.discard(outcome.record_id)
            self._failures += outcome.record_id not in self._failed
        else:
            self._rows += self._writer.add_row(outcome)
            unrendered, self._unrendered = self._unrendered, []
            for failure in unrendered:
                self._keep(failure)
        self._finished += 1

    def _mend(self) -> None:
        """After a whole pass: take back failures of the input that it did not come upon again."""
        source, limit = self._parts.source, self._parts.source.limit
        cut_off = limit is not None and (self._read >= limit or source.partition is not None)
        if not self._misread or (cut_off and self._read < self._writer.most_read()):
            return  # an earlier start saw more of the input
        mended = {one for one in self._misread if belongs(one, source.partition)}
        if mended:
            self._writer.mend(mended)
            self._writer.log("mended", failures=len(mended))
            self._failures -= len(mended & self._failed)

    def _raise_if_stopped(self) -> None:
        problem = self._stopped
        if isinstance(problem, StoppedEarly):
            total = "" if self._total is None else f" of {self._total} prompts"
            done = f"{self._rows}{total} are rows, {self._failures} failed"
            raise StoppedEarly(f"{problem.message}; {done}", hint=problem.hint)
        if problem is not None:
            raise problem

    def _log_removed(self, failure: Failure) -> None:
        self._writer.log(
            "left out", prompt=failure.record_id, reason=failure.kind, why=failure.message
        )

    async def _tick(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(_TICK_SECONDS)

    def _show(self) -> None:
        if self._on_progress is None:
            return
        engines = self._parts.recorded
        totals = self._writer.ledger.totals()
        prices = [total.price for total in totals if total.price is not None]
        elsewhere = self._elsewhere
        if elsewhere.spent.price:
            prices.append(elsewhere.spent.price)
        elapsed = max(time.monotonic() - self._started, 1e-9)
        self._on_progress(
            Progress(
                total=self._total,
                rows=self._rows,
                failures=self._failures,
                asked=sum(engine.asked.total() for engine in engines)
                + sum(elsewhere.asked.values()),
                remembered=sum(engine.remembered.total() for engine in engines)
                + sum(elsewhere.remembered.values()),
                price=sum(prices) if prices else None,
                rate=self._finished / elapsed,
                budget=self._budget.uses() if self._budget else (),
                # Engines at the same server say the same.
                pending=tuple(dict.fromkeys(filter(None, (one.pending for one in engines)))),
            )
        )

    def _counts(self) -> dict[str, Any]:
        asked = Counter(self._elsewhere.asked)
        remembered = Counter(self._elsewhere.remembered)
        for engine in self._parts.recorded:
            asked += engine.asked
            remembered += engine.remembered
        return {"asked": dict(asked), "remembered": dict(remembered)}
