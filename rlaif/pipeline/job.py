"""One start of a run: working through what is left, showing how far it is, stopping in order."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import nullcontext, suppress
from typing import Any

from rlaif.errors import EngineUnavailable, NothingSucceeded, RlaifError, StoppedEarly
from rlaif.pipeline.build import Parts
from rlaif.pipeline.ray.coordinator import Done
from rlaif.pipeline.remaining import Remaining
from rlaif.pipeline.tally import OnProgress, Tally
from rlaif.records import Failure, Prompt, Row
from rlaif.runs import RunWriter
from rlaif.sessions.budget import Budget
from rlaif.sessions.concurrent import Interrupted, read_in_thread, run_all
from rlaif.sessions.session import Session

_TICK_SECONDS = 0.5


class Job:
    """One start of a run.

    Args:
        session: Whose engines are asked, connected to the ledger of the run.
        parts: What the run is made of.
        writer: The run, open for writing.
        remaining: What is to be done.
        budget: What may be spent.
        on_progress: Called about twice a second.

    Attributes:
        tally: What came of the run so far.
        spread: Works on prompts in other processes; None works on them in this one.
    """

    def __init__(
        self,
        session: Session,
        parts: Parts,
        writer: RunWriter,
        remaining: Remaining,
        *,
        budget: Budget | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._session = session
        self._parts = parts
        self._writer = writer
        self._remaining = remaining
        self._budget = budget
        self._on_progress = on_progress
        drawn = parts.settings.student.sampling.temperature > 0 and parts.samples
        self.tally = Tally(writer, remaining.failed, drawn=drawn)
        self.spread: Callable[..., Coroutine[Any, Any, None]] | None = None
        self._loop = asyncio.get_running_loop()
        self._stopped: RlaifError | None = None
        """Why nothing more begins; the first reason counts."""

        self._enough = asyncio.Event()
        """Set when what is in flight shall not take long any more."""

    async def run(self) -> None:
        """Do what is missing.

        Raises:
            Interrupted: SIGINT or SIGTERM arrived; what was finished is written.
            RlaifError: Why the run cannot continue; likewise.
        """
        log, tally = self._writer.log, self.tally
        log("started", rows=tally.rows, failures=tally.failures, **self._remaining.origin)
        ticker = asyncio.create_task(self._tick())
        for warning in self._parts.warnings:
            logging.getLogger(__name__).warning(warning)
            log("warning", message=warning)
        try:
            tally.total = await read_in_thread(self._remaining.count)
            await self._work()
            self._raise_if_stopped()
            if problem := tally.never_rendered():
                raise problem
            tally.warn_of_identical()
            tally.failures -= self._remaining.finish()
            tally.rows -= self._remaining.orphans
            self._writer.flush()
            self._session.settle()
            counts = tally.counts(self._session.recorded)
            log("finished", rows=tally.rows, failures=tally.failures, **counts, **tally.said())
        except Interrupted:
            self._writer.flush()
            log("interrupted", rows=tally.rows, failures=tally.failures)
            raise
        except RlaifError as problem:
            with suppress(RlaifError):
                self._writer.flush()
                log("stopped", error=problem.message, **tally.said())
            raise
        finally:
            self._enough.set()  # ends a reader that is still at work
            ticker.cancel()
            self._show()

    async def _work(self) -> None:
        if self.spread is None:
            concurrency = self._parts.settings.concurrency
            await run_all(self._missing(), self._one, concurrency=concurrency, enough=self._enough)
        else:
            await self._session.close_engines()
            await self.spread(self._missing_prompts(), take=self._take)

    def _missing(self) -> Iterator[Prompt | Row | Failure]:
        """Yield what is neither a row nor a failure yet. Runs in a reader thread."""
        try:
            yield from self._remaining.read(lambda: bool(self._stopped or self._enough.is_set()))
        except EngineUnavailable as problem:
            # Not raised here, which would cancel calls in flight.
            self._stop_for(problem)

    async def _one(self, item: Prompt | Row | Failure) -> None:
        if self._stopped:
            return
        if isinstance(item, Failure):
            self._keep_read(item)
            return
        try:
            async with nullcontext() if self._budget is None else self._budget.item():
                if self._stopped:  # while it waited
                    return
                outcome = await self._parts.work.carry(item)
        except StoppedEarly as problem:
            # Not raised here, which would cancel others: they may finish without another call.
            self._stop_for(problem)
        except (EngineUnavailable, NothingSucceeded) as problem:
            # Nor here: other engines may be answering calls that are paid for.
            self._stop_for(problem)
            self._enough.set()
        else:
            self._keep(outcome)

    def _missing_prompts(self) -> Iterator[Prompt]:
        """The same without failures, which need no work."""
        for item in self._missing():
            if isinstance(item, Prompt):
                yield item
            elif isinstance(item, Failure):
                self._loop.call_soon_threadsafe(self._keep_elsewhere_read, item)
        self._raise_if_stopped()

    def _keep_elsewhere_read(self, failure: Failure) -> None:
        """Keep what the reading thread came upon while other processes work."""
        try:
            if not self._enough.is_set():
                self._keep_read(failure)
        except RlaifError as problem:
            self._stop_for(problem)

    def _take(self, done: Done) -> None:
        """Take what other processes did."""
        for row in done.rows:
            self._keep(row)
        for failure in done.failures:
            self._keep(failure)
        if self._budget is not None:
            self._budget.add(done.spent)
        self.tally.add_elsewhere(done.asked, done.remembered, done.spent)
        if self._stopped is not None:
            raise self._stopped

    def _keep_read(self, failure: Failure) -> None:
        self._remaining.meet(failure)
        self.tally.keep_failure(failure)

    def _keep(self, outcome: Row | Failure) -> None:
        if isinstance(outcome, Failure):
            if outcome.record_id in self._remaining.retried:
                return  # the row it has stays
            self._remaining.meet(outcome)
        if problem := self.tally.keep(outcome):
            self._stop_for(problem)

    def _stop_for(self, problem: RlaifError) -> None:
        self._stopped = self._stopped or problem

    def _raise_if_stopped(self) -> None:
        if isinstance(self._stopped, StoppedEarly):
            raise self.tally.with_counts(self._stopped)
        if self._stopped is not None:
            raise self._stopped

    async def _tick(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(_TICK_SECONDS)

    def _show(self) -> None:
        if self._on_progress is not None:
            uses = self._budget.uses() if self._budget else ()
            self._on_progress(self.tally.progress(self._session.recorded, uses))
