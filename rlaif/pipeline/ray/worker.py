"""A worker: the work on prompts in a separate process, with a share of the run's limits.

It does not know what spreads the work. Prompts come in portions and go back as `Done`, after the
replies behind them are in reply shards. A slot is free for the next prompt as soon as one is done;
only the portion itself waits for its slowest prompt.
"""

import asyncio
import threading
import time
import traceback
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from rlaif.config import RunConfig
from rlaif.engines import Engine, Generate, Reply, Request
from rlaif.errors import RunMismatch, StoppedEarly
from rlaif.pipeline.build import build_parts
from rlaif.pipeline.ray.coordinator import (
    CoordinatorClient,
    Done,
    SharedBudget,
    describe_problem,
    is_known,
)
from rlaif.records import Failure, Prompt, Row
from rlaif.runs import Entry, Ledger
from rlaif.runs.layout import Layout
from rlaif.runs.stores import Store, url_of
from rlaif.sessions.budget import Budget, Spend, spend_of
from rlaif.sessions.recorded import RecordedEngine
from rlaif.sessions.session import Session

ResultT = TypeVar("ResultT")

_STARTS = 4
"""Started more often in a row, a worker gives the run up: some prompt may be what kills it."""

_FLUSH_SECONDS = 2.0
"""How long finished portions wait for others, so that one file takes the replies of all."""


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """What a worker is started with."""

    settings: RunConfig
    """With this worker's share of all limits."""

    fingerprint: str
    """Of the plan, as the command that started the run has it."""


class WorkerCache:
    """What a worker remembers: its own replies, and those just fetched from the coordinator."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._fetched: dict[str, Entry] = {}
        self.path = ledger.path

    def get(self, key: str) -> Entry | None:
        """Look a reply up; one that was fetched is given away once."""
        return self._fetched.pop(key, None) or self._ledger.get(key)

    def put(self, entry: Entry) -> None:
        """Write an entry down."""
        self._ledger.put(entry)

    def flush(self) -> None:
        """Wait until every reply so far is durable."""
        self._ledger.flush()

    async def fetch(self, keys: Sequence[str], link: CoordinatorClient) -> None:
        """Fetch replies from the coordinator. Those of other runs are copied, as a ledger does."""
        missing = [key for key in keys if self._ledger.get(key) is None]
        for key, (entry, ours) in zip(missing, await link.find(missing), strict=True):
            if entry is None:
                continue
            if ours:
                self._fetched[key] = entry
            elif self._ledger.get(key) is None:
                self._ledger.put(entry)


class CachedEngine(RecordedEngine):
    """A recorder that asks the coordinator for what earlier starts and other runs have."""

    def __init__(
        self,
        engine: Engine,
        cache: WorkerCache,
        link: CoordinatorClient,
        label: str,
        budget: Budget | None,
        give_up_after: int,
    ) -> None:
        super().__init__(engine, cache, label=label, budget=budget, give_up_after=give_up_after)
        self._cache = cache
        self._link = link
        self._known = link.known()

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Answer from here or the coordinator where possible, else ask the engine."""
        if len(self._known):
            seeds = request.seeds if isinstance(request, Generate) else (None,)
            keys = [self.key(request, seed) for seed in seeds]
            known = [key for key in keys if is_known(self._known, key)]
            if known:
                await self._cache.fetch(known, self._link)
        return await super().ask(request)


class Worker:
    """One process of a run. `work` may be called from many threads.

    Args:
        task: What to do.
        link: The way to the coordinator.
        name: Letters and digits that no other worker has; the same after it died and came back.
    """

    def __init__(self, task: WorkerTask, link: CoordinatorClient, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="rlaif-worker", daemon=True).start()
        self._name = name
        self._link = link
        self._problem: tuple[str, str, str] | None = None
        self._stopping = self._progressed = False
        self._running: set[asyncio.Task[Row | Failure]] = set()
        self._slots = asyncio.Semaphore(task.settings.concurrency)
        self._share = task.settings.concurrency
        self._flushing: asyncio.Task[None] | None = None
        self._recorded: list[RecordedEngine] = []
        self._budget: SharedBudget | None = None
        try:
            self._open(task)
        except Exception as problem:  # noqa: BLE001 - said with the first portion, as data
            self._stop_for(problem)
            return
        self._reported = self._counts()
        starts = self._call(self._link.hello(name))
        if starts > _STARTS:
            message = f"a worker died {starts - 1} times without finishing anything in between"
            hint = "see its log for the reason, such as memory; everything finished is kept"
            self._problem = (StoppedEarly.__name__, message, hint)
        asyncio.run_coroutine_threadsafe(self._stop_when_told(), self._loop)

    def _open(self, task: WorkerTask) -> None:
        settings = task.settings
        session = Session(settings.templates, give_up_after=settings.give_up_after)
        parts = build_parts(session, settings)
        if parts.manifest.fingerprint != task.fingerprint:
            raise RunMismatch(
                "a worker finds other settings than the command that started the run: templates, "
                "constitution, models or versions differ between machines",
                hint="install the same versions everywhere, and put the files that the run file "
                "names where every machine sees them",
            )
        url = url_of(settings.out)
        store = None if url is None else Store(url)
        if store is not None:
            store.fetch(folders=("replies",), only=f"-{self._name}-")
        self._ledger = Ledger.open_sharded(
            Layout(settings.out if store is None else store.copy).replies,
            writer=self._name,
            only_own=True,
            upload=None if store is None else store.upload,
        )
        cache = WorkerCache(self._ledger)
        if settings.budget is not None:
            self._budget = SharedBudget(self._link, self._name, settings.budget)

        def through(label: str, engine: Engine) -> Engine:
            self._recorded.append(
                CachedEngine(engine, cache, self._link, label, self._budget, settings.give_up_after)
            )
            return self._recorded[-1]

        session.connect(through)
        session.watch_verdicts()
        self._work = parts.work

    def work(self, prompts: Sequence[Prompt]) -> Done:
        """Carry prompts through all stages; return when their replies are durable."""
        if not self._recorded:
            return Done(left=len(prompts), problem=self._problem)
        return self._call(self._all(prompts))

    def _call(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _all(self, prompts: Sequence[Prompt]) -> Done:
        done = Done()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(prompt)) for prompt in prompts]
        for task in tasks:
            match task.result():
                case Row() as row:
                    done.rows.append(row)
                case Failure() as failure:
                    done.failures.append(failure)
                case None:
                    done.left += 1
        try:
            await self._durable()
        except Exception as problem:  # noqa: BLE001 - handed over as data
            self._stop_for(problem)
            done = Done(left=len(prompts))
        if not self._progressed and done.rows:
            self._progressed = True
            self._link.progressed(self._name)
        done.problem = self._problem
        self._report(done)
        return done

    async def _one(self, prompt: Prompt) -> Row | Failure | None:
        async with self._slots, nullcontext() if self._budget is None else self._budget.item():
            if self._stopping or self._problem:
                return None
            task = asyncio.ensure_future(self._work.row(prompt))
            self._running.add(task)
            try:
                return await task
            except asyncio.CancelledError:
                return None
            except Exception as problem:  # noqa: BLE001 - handed over as data
                self._stop_for(problem)
                return None
            finally:
                self._running.discard(task)

    def _stop_for(self, problem: Exception) -> None:
        """Begin nothing any more, and say why with what comes back; the first reason counts."""
        if self._problem is None:
            self._problem = describe_problem(problem, traceback.format_exc())

    async def _durable(self) -> None:
        """Wait until all replies so far are in shards, together with other portions."""
        if self._flushing is None:
            self._flushing = asyncio.ensure_future(self._flush())
        await asyncio.shield(self._flushing)

    async def _flush(self) -> None:
        until = time.monotonic() + _FLUSH_SECONDS
        # While all slots are in use nothing is lost by waiting; a free one needs the next portion.
        while len(self._running) >= self._share and time.monotonic() < until:
            await asyncio.sleep(0.02)
        self._flushing = None
        await asyncio.to_thread(self._ledger.flush)

    async def _stop_when_told(self) -> None:
        patience = await self._link.stopping()
        self._stopping = True
        if self._running:
            await asyncio.wait(set(self._running), timeout=patience)
        for task in list(self._running):
            task.cancel()
        await asyncio.to_thread(self._ledger.flush)
        await self._link.drained(self._name)

    def _report(self, done: Done) -> None:
        """Add what was asked since the last time."""
        before, self._reported = self._reported, self._counts()
        asked, remembered, spent = self._reported
        done.asked, done.remembered = dict(asked - before[0]), dict(remembered - before[1])
        done.spent = spent - before[2]

    def _counts(self) -> tuple[Counter[str], Counter[str], Spend]:
        asked: Counter[str] = Counter()
        remembered: Counter[str] = Counter()
        for engine in self._recorded:
            asked += engine.asked
            remembered += engine.remembered
        return asked, remembered, spend_of(self._ledger.totals())
