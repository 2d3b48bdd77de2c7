"""The budget: what a run may spend in money, calls and tokens, over all its starts together.

Before a call the most it can cost is set aside, and given back when the real cost is known. So
calls in flight never add up to more than the budget, as far as tokens can be told beforehand. What
no longer fits waits for calls in flight, which as a rule cost less than was set aside for them.
When nothing is in flight and it still does not fit, the run stops: nothing paid is cancelled.

Prompts are finished one after the other rather than begun all together: no more of them are in
flight than what is left pays for, so that what is spent becomes rows.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rlaif.config.run import BudgetConfig
from rlaif.engines import Engine, Generate, Label, Priced, Reply, Request, Score, Usage
from rlaif.errors import CallFailed, ConfigError, StoppedEarly
from rlaif.records.tool_use import spoken, tool_texts
from rlaif.runs import Total

BYTES_PER_TOKEN = 3
"""English takes more bytes for a token and most other scripts about as many, so what is set aside
is seldom too little."""

TOKENS_PER_MESSAGE = 8
"""What a chat template adds, about."""

_FIRST_ITEMS = 4
"""Prompts in flight until the first one is finished and shows what one costs."""

_SLACK = 1e-9
"""Of a limit, so that a sum of many small prices may reach it exactly."""


@dataclass(frozen=True, slots=True)
class Spend:
    """Money, calls and tokens: spent, or set aside."""

    price: float = 0.0
    calls: int = 0
    tokens: int = 0

    def __add__(self, other: "Spend") -> "Spend":
        return Spend(self.price + other.price, self.calls + other.calls, self.tokens + other.tokens)

    def __sub__(self, other: "Spend") -> "Spend":
        return Spend(self.price - other.price, self.calls - other.calls, self.tokens - other.tokens)


NOTHING = Spend()

NO_ROOM = "no-room"
"""Kind of the failure of a call that the budget leaves no room for."""


@dataclass(frozen=True, slots=True)
class Use:
    """One limit and how much of it is used."""

    what: str
    """``price``, ``calls`` or ``tokens``."""

    used: float
    limit: float


class Budget:
    """Keeps a run within its limits. Used from one event loop.

    Args:
        max_price: In the currency of the prices; None: unlimited. The same for the others.
        max_calls: Replies, as ``rlaif status`` counts them.
        max_tokens: Prompt and completion together.
        spent: What earlier starts of the run spent.
    """

    def __init__(
        self,
        *,
        max_price: float | None = None,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        spent: Spend = NOTHING,
    ) -> None:
        limits = {"price": max_price, "calls": max_calls, "tokens": max_tokens}
        self._limits = {what: limit for what, limit in limits.items() if limit is not None}
        self._spent = self._spent_before = spent
        self._items = self._items_paid = 0
        self._spent_at_last = spent
        self._item_ended = asyncio.Event()
        self.depth_first = True
        """Whether few prompts are in flight, so that what is paid for becomes rows."""

        self._held = NOTHING
        self._in_flight = 0
        self._waiting: deque[tuple[asyncio.Future[None], Spend]] = deque()
        self._over: tuple[str, str] | None = None
        """Message and hint, once no further call may begin."""

    def uses(self) -> tuple[Use, ...]:
        """Return every limit with what is used of it."""
        return self._against(self._spent)

    def add(self, spent: Spend) -> None:
        """Count what was spent elsewhere."""
        self._spent += spent

    def check_room(self, most: Spend) -> None:
        """See that a call that the work can do without fits into what is left.

        Raises:
            CallFailed: It does not.
        """
        if self._over is not None or not self._fits(most):
            raise CallFailed("the budget leaves no room for a call ahead", kind=NO_ROOM)

    @asynccontextmanager
    async def item(self) -> AsyncIterator[None]:
        """Wait until what is left may pay for one more prompt; inside, it is worked on."""
        while self.depth_first and self._items >= self._affordable():
            self._item_ended.clear()
            await self._item_ended.wait()
        self._items += 1
        try:
            yield
        finally:
            self._items -= 1
            if self._spent != self._spent_at_last:  # else all came from a ledger
                self._items_paid += 1
                self._spent_at_last = self._spent
            self._item_ended.set()

    def release(self) -> None:
        """Let all prompts begin that wait, so that they find that the run is stopping."""
        self.depth_first = False
        self._item_ended.set()

    def _affordable(self) -> float:
        """How many prompts may be in flight, by what those finished since this start cost."""
        if self._over is not None:
            return math.inf  # they may finish with what is remembered
        if not self._items_paid:
            return _FIRST_ITEMS
        paid = self._against(self._spent - self._spent_before)
        left = [
            (use.limit - use.used) * self._items_paid / one.used
            for use, one in zip(self.uses(), paid, strict=True)
            if one.used > 0
        ]
        return max(1.0, math.floor(min(left))) if left else math.inf

    async def reserve(self, most: Spend) -> None:
        """Set aside the most that a call can cost; `settle` it, whatever becomes of the call.

        Raises:
            StoppedEarly: It does not fit into what is left, and nothing is in flight any more.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, most))
        self._wake()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.settle(most, NOTHING)
            raise

    def settle(self, most: Spend, real: Spend) -> None:
        """Give back what was set aside, and count what the call really cost."""
        self._in_flight -= 1
        self._held = self._held - most if self._in_flight else NOTHING
        self._spent += real
        self._wake()

    def check_measured(self, tokens: int, *, priced: bool, who: str) -> None:
        """Let no further call begin if one did not say what it took and a limit needs that."""
        needing = ("price", "tokens") if priced else ("tokens",)
        keys = " and ".join(f"budget.max_{what}" for what in needing if what in self._limits)
        if keys and not tokens:
            self._over = (
                f"{who} does not say how many tokens a reply took, so {keys} cannot be kept",
                f"set budget.max_calls in place of {keys} and repeat the command: it resumes where "
                "it stopped",
            )

    def _wake(self) -> None:
        """Let waiting calls go, in order, as far as they fit; refuse them when all has landed."""
        while self._waiting:
            waiter, most = self._waiting[0]
            if not waiter.done():
                if self._over is None and self._fits(most):
                    self._in_flight += 1
                    self._held += most
                    waiter.set_result(None)
                elif self._in_flight:
                    return
                else:
                    self._over = self._over or self._used_up(most)
                    message, hint = self._over
                    waiter.set_exception(StoppedEarly(message, hint=hint))
            self._waiting.popleft()

    def _fits(self, most: Spend) -> bool:
        return not any(map(_exceeds, self._against(self._spent + self._held + most)))

    def _against(self, sum_: Spend) -> tuple[Use, ...]:
        return tuple(Use(what, getattr(sum_, what), limit) for what, limit in self._limits.items())

    def _used_up(self, most: Spend) -> tuple[str, str]:
        reached = [use.what for use in self._against(self._spent + most) if _exceeds(use)]
        words = [show_use(use) for use in self.uses() if use.what in reached]
        keys = " and ".join(f"budget.max_{what}" for what in reached)
        return (
            f"the budget is used up: {', '.join(words)}, and the next call may not fit",
            f"raise {keys} and repeat the command: it resumes where it stopped",
        )


def _exceeds(use: Use) -> bool:
    return use.used > use.limit * (1.0 + _SLACK)


def show_use(use: Use) -> str:
    """Return such as ``spent 4.9987 of 5`` or ``calls 100 of 100``."""
    used = f"spent {use.used:.4f}" if use.what == "price" else f"{use.what} {use.used:.0f}"
    return f"{used} of {use.limit:.10g}"


def open_budget(config: BudgetConfig | None, totals: Iterable[Total]) -> Budget | None:
    """Return the budget of a run with what its ledger says is spent; None when there is none."""
    return None if config is None else Budget(**config.model_dump(), spent=spend_of(totals))


def spend_of(totals: Iterable[Total]) -> Spend:
    """Return what a ledger says was spent."""
    spent = NOTHING
    for one in totals:
        spent += Spend(one.price or 0.0, one.calls, one.prompt_tokens + one.completion_tokens)
    return spent


def check_priced(config: BudgetConfig | None, engines: Mapping[str, Engine]) -> None:
    """See that every engine that can cost money says how much.

    Engines without prices run in this process and cost none.

    Args:
        config: What the run may spend.
        engines: By role.

    Raises:
        ConfigError: A price is unknown; says which and how to configure it.
    """
    if config is None or config.max_price is None:
        return
    for role, engine in engines.items():
        if isinstance(engine, Priced) and engine.price(Usage(1, 1)) is None:
            raise ConfigError(
                f"budget.max_price: the price of {role} ({engine.identity.get('model')}) is not "
                "known, so money cannot be counted",
                hint="say what a million tokens cost in the options of that engine, such as "
                "options: {price: {input_per_million: 0.15, output_per_million: 0.6}} (0 and 0 for "
                "a server of your own); or limit max_calls or max_tokens instead",
            )


def most_of(request: Request, priced: Priced | None) -> Spend:
    """Return the most that a request can cost, judging from the length of its text.

    Args:
        request: What is asked.
        priced: The engine that is asked, if it knows what its replies cost.
    """
    said = [message["content"] for message in spoken(request.messages)]
    size = sum(len(text.encode()) for text in (*said, *tool_texts(request.messages)))
    prompt = size // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE * (len(request.messages) + 1)
    count, written = 1, 1
    match request:
        case Generate():
            count, written = len(request.seeds), request.sampling.max_tokens
        case Score():
            prompt += len(request.continuation.encode()) // BYTES_PER_TOKEN
        case Label():
            pass
    price = None if priced is None else priced.price(Usage(prompt, written))
    return Spend(count * (price or 0.0), count, count * (prompt + written))


def cost_of(replies: Sequence[Reply], prices: Iterable[float | None]) -> Spend:
    """Return what replies with these prices cost, as the ledger will count them."""
    tokens = sum(one.usage.prompt_tokens + one.usage.completion_tokens for one in replies)
    return Spend(sum(price or 0.0 for price in prices), len(replies), tokens)
