"""The recorder: an engine whose every reply is a fact in the ledger.

Before asking, it looks the reply up; after asking, it writes the raw reply down before anyone
parses it. Equal questions that are in flight at the same time are asked once. It speaks the engine
protocol, so callers cannot tell whether a reply was paid for or remembered.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from rlaif.engines import (
    Capability,
    Counting,
    Engine,
    Generate,
    Lasting,
    Priced,
    Reply,
    Request,
    Wasteful,
    Written,
    is_batching,
    request_key,
)
from rlaif.errors import CallFailed
from rlaif.records import content_id
from rlaif.runs import Entry
from rlaif.sessions.budget import NOTHING, Budget, Spend, cost_of, most_of
from rlaif.sessions.outset import CallOutsets, Outset


class Memory(Protocol):
    """What remembers replies: a ledger, as a rule."""

    def get(self, key: str) -> Entry | None:
        """Look a reply up."""
        ...

    def put(self, entry: Entry) -> None:
        """Write a reply down."""
        ...

    def flush(self) -> None:
        """Wait until every reply so far is durable."""
        ...

    @property
    def path(self) -> Path:
        """Where it lies; what engines keep between starts goes beside it."""
        ...


class RecordedEngine:
    """One engine behind the ledger.

    Args:
        engine: Who answers what the ledger does not know.
        ledger: Remembers every reply.
        label: The engine's name in the account.
        budget: What may be spent; shared by all engines of a run.
        give_up_after: How many first calls of a kind may fail for the same reason; 0: any number.
        before: Awaited before the engine is asked, every time.

    Attributes:
        asked: How many replies were asked of the engine, by purpose.
        remembered: How many came from the ledger (or from an equal call in flight), by purpose.
        spent: What this process paid for replies; None as long as no price was known.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Memory,
        *,
        label: str,
        budget: Budget | None = None,
        give_up_after: int = 0,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._engine = engine
        self._budget = budget
        self._ledger = ledger
        self._label = label
        self._before = before
        self._priced = engine if isinstance(engine, Priced) else None
        self._lasting = engine if isinstance(engine, Lasting) else None
        self._wasteful = engine if isinstance(engine, Wasteful) else None
        self._counting = engine if isinstance(engine, Counting) else None
        self._written = Written(0, 0)
        self._outsets = CallOutsets(label, give_up_after, slow=not is_batching(engine))
        if self._lasting is not None:
            self._lasting.keep_state(ledger.path.with_name("batches"))
        self._identity = dict(engine.identity)
        self._in_flight: dict[str, asyncio.Future[Reply]] = {}
        self.asked: Counter[str] = Counter()
        self.remembered: Counter[str] = Counter()
        self.spent: float | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """The engine's own."""
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The engine's own."""
        return self._engine.capabilities

    @property
    def pending(self) -> str:
        """What the engine is waiting for beyond single calls; empty for most engines."""
        return "" if self._lasting is None else self._lasting.pending()

    def written(self) -> Written:
        """What the engine generated since this start; calls in flight count where it knows them."""
        return self._written if self._counting is None else self._counting.written()

    def settle(self) -> None:
        """Make every reply so far durable, and let the engine forget what it kept of them."""
        self._ledger.flush()
        if self._lasting is not None:
            self._lasting.settle()

    def key(self, request: Request, seed: int | None = None) -> str:
        """The ledger key of one reply to this request."""
        return request_key(self._identity, request, seed)

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Answer from the ledger where possible, else ask the engine and write the reply down."""
        seeds: tuple[int | None, ...]
        seeds = request.seeds if isinstance(request, Generate) else (None,)
        keys = [self.key(request, seed) for seed in seeds]
        found: dict[str, Reply] = {}
        waiting: dict[str, asyncio.Future[Reply]] = {}
        missing: dict[str, int | None] = {}
        for key, seed in zip(keys, seeds, strict=True):
            entry = self._ledger.get(key)
            if entry is not None:
                found[key] = Reply.from_json(entry.reply)
            elif key in self._in_flight:
                waiting[key] = self._in_flight[key]
            else:
                missing[key] = seed
        if found or waiting:
            self.remembered[request.purpose] += len(found) + len(waiting)
        if found:
            self._outsets.of(request.purpose, type(request)).passed = True
        if missing:
            found.update(await self._ask_engine(request, missing))
        for key, future in waiting.items():
            found[key] = await self._wait(request, key, future)
        return [found[key] for key in keys]

    async def _wait(self, request: Request, key: str, future: asyncio.Future[Reply]) -> Reply:
        """Wait for an equal call; should its asker be cancelled, ask in its place."""
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not future.cancelled() or (task is not None and task.cancelling()):
                raise
        seeds = request.seeds if isinstance(request, Generate) else ()
        again = next((seed for seed in seeds if self.key(request, seed) == key), None)
        if isinstance(request, Generate) and again is not None:
            request = replace(request, seeds=(again,))
        return (await self.ask(request))[0]

    async def _ask_engine(
        self, request: Request, missing: Mapping[str, int | None]
    ) -> dict[str, Reply]:
        loop = asyncio.get_running_loop()
        futures = {key: loop.create_future() for key in missing}
        self._in_flight.update(futures)
        asked = request
        if isinstance(request, Generate) and len(missing) < len(request.seeds):
            asked = replace(request, seeds=tuple(seed or 0 for seed in missing.values()))
        try:
            if self._before is not None:
                await self._before()
            outset = self._outsets.of(request.purpose, type(request))
            paying = self._pay(asked) if outset.passed else self._try(asked, outset)
            replies, prices = await paying
            self.asked[request.purpose] += len(replies)
            if isinstance(request, Generate):
                tokens = sum(reply.usage.completion_tokens for reply in replies)
                self._written += Written(len(replies), tokens)
            answered = dict(zip(missing, replies, strict=True))
            for (key, reply), price in zip(answered.items(), prices, strict=True):
                self._ledger.put(self._entry(key, request.purpose, reply, price))
                futures[key].set_result(reply)
            return answered
        except BaseException as problem:
            for future in futures.values():
                if future.done():
                    continue
                if isinstance(problem, Exception):
                    future.set_exception(problem)
                    future.exception()  # retrieved: no other call may be waiting for it
                else:
                    future.cancel()
            raise
        finally:
            for key in futures:
                self._in_flight.pop(key, None)

    async def _try(
        self, request: Request, outset: Outset
    ) -> tuple[Sequence[Reply], Sequence[float | None]]:
        """Ask the engine among the first calls of a kind, and see whether all fail."""
        await outset.enter()
        try:
            answered = await self._pay(request)
        except CallFailed as problem:
            self._outsets.failed(outset, problem)
            raise
        except BaseException:
            outset.leave()
            raise
        outset.succeed()
        return answered

    async def _pay(self, request: Request) -> tuple[Sequence[Reply], Sequence[float | None]]:
        """Ask the engine, within the budget; return the replies with the price of each."""
        budget, engine = self._budget, self._engine
        if budget is None:
            try:
                replies = await engine.ask(request)
            finally:
                self._book_wasted(request)
            return replies, self._prices(replies)
        most, real = most_of(request, self._priced), NOTHING
        await budget.reserve(most)
        try:
            replies = await engine.ask(request)
            prices = self._prices(replies)
            real = cost_of(replies, prices)
            if any(reply.finish != "refusal" for reply in replies):  # a filter counts no tokens
                priced = self._priced is not None
                budget.check_measured(real.tokens, priced=priced, who=self._label)
            return replies, prices
        finally:
            budget.settle(most, real + self._book_wasted(request))

    def _book_wasted(self, request: Request) -> Spend:
        """Write down what replies cost that could not be used; return it, for the budget."""
        usage = None if self._wasteful is None else self._wasteful.take_wasted()
        if usage is None:
            return NOTHING
        return self.book(request.purpose, [Reply(finish="unusable", usage=usage)])

    async def ask_apart(self, request: Request) -> Sequence[Reply]:
        """Ask within the budget, and write down what it cost; no question is answered by it.

        Raises:
            CallFailed: It failed, or the budget leaves no room for it.
        """
        if self._budget is not None:
            self._budget.check_room(most_of(request, self._priced))
        replies, _ = await self._pay(request)
        self.book(request.purpose, replies)
        return replies

    def book(self, purpose: str, replies: Sequence[Reply]) -> Spend:
        """Write down replies that answer no question of the run; return what they cost."""
        prices = self._prices(replies)
        for reply, price in zip(replies, prices, strict=True):
            key = content_id("unusable", self._label, uuid.uuid4().hex)
            self._ledger.put(self._entry(key, purpose, reply, price))
        return cost_of(replies, prices)

    def _prices(self, replies: Sequence[Reply]) -> list[float | None]:
        if self._priced is None:
            return [None] * len(replies)
        return [self._priced.price(reply.usage) for reply in replies]

    def _entry(self, key: str, purpose: str, reply: Reply, price: float | None) -> Entry:
        if price is not None:
            self.spent = (self.spent or 0.0) + price
        return Entry(
            key=key,
            purpose=purpose,
            engine=self._label,
            reply=reply.to_json(),
            prompt_tokens=reply.usage.prompt_tokens,
            completion_tokens=reply.usage.completion_tokens,
            cached_tokens=reply.usage.cached_tokens,
            price=price,
            reused=False,
            created=time.time(),
        )

    async def aclose(self) -> None:
        """Close the engine; the ledger belongs to its opener."""
        await self._engine.aclose()
