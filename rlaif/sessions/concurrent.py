"""Work spread in this process: many items in flight, each at its own stage, none waiting.

Bounded everywhere: a reader thread fills a short queue, ``concurrency`` workers take from it, and
finished work goes to the writer at once. Nothing here knows what the work is.
"""

import asyncio
import gc
import signal
import threading
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, Generic, TypeVar, cast

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_READ_AHEAD = 256
DRAIN_SECONDS = 8.0
"""How long work in flight may finish after a first Ctrl-C, before it is cancelled."""

_CLOSE_SECONDS = 1.0
"""How long a reading thread may take to end, once its items are not needed any more."""

_READER = "rlaif-reader"
"""Name of the reading threads."""


class Interrupted(Exception):  # noqa: N818 - a signal, not an error
    """The user (or the system) asked to stop; everything finished has been handed over."""


async def run_all(
    items: Iterator[ItemT],
    work: Callable[[ItemT], Awaitable[None]],
    *,
    concurrency: int,
    enough: asyncio.Event | None = None,
) -> None:
    """Do ``work`` on every item, at most ``concurrency`` at once.

    Args:
        items: Read in a thread, a little ahead of the work.
        work: What to do with one.
        concurrency: How many are worked on at once.
        enough: Set by ``work`` when nothing more shall begin; as after a signal, work in flight
            then gets `DRAIN_SECONDS` to finish, and is cancelled after that.

    Raises:
        Interrupted: SIGINT or SIGTERM arrived. Work in flight got `DRAIN_SECONDS` to finish.
        Exception: The first one that ``work`` or the iterator raised; the rest was cancelled.
    """
    async with stop_signals() as stop, _seldom_collecting():
        events = [stop] if enough is None else [stop, enough]
        supply = _Supply(items)
        main = asyncio.create_task(_workers(supply, work, concurrency, events))
        stopping = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait({main, *stopping}, return_when=asyncio.FIRST_COMPLETED)
            supply.end()
            if not main.done():
                await asyncio.wait({main}, timeout=DRAIN_SECONDS)
            if not main.done():
                main.cancel()
                with suppress(asyncio.CancelledError):
                    await main
            else:
                _raise_first(main)
        finally:
            for waiting in stopping:
                waiting.cancel()
            main.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await main
            supply.end()
            await supply.close()
        if stop.is_set():
            raise Interrupted


def _raise_first(task: asyncio.Task[None]) -> None:
    try:
        task.result()
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


class _Supply(Generic[ItemT]):
    """Items read in a thread, some hundred ahead of the workers that take them."""

    def __init__(self, items: Iterator[ItemT]) -> None:
        self._items = items
        self._ready: deque[ItemT] = deque()
        self._ended = False
        self._changed = asyncio.Event()
        """There is something to take, or there will be nothing more."""

        self._reading = threading.Lock()
        self._low = asyncio.Event()
        """Time to read on."""

    async def take(self) -> ItemT | None:
        """Return the next item; None is the end."""
        while not self._ready:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._ready.popleft()
        if len(self._ready) < _READ_AHEAD:
            self._low.set()
        return item

    async def fill(self) -> None:
        """Read until nothing is left."""
        while (chunk := await _in_thread(self._read)) and not self._ended:
            self._ready.extend(chunk)
            self._changed.set()
            while len(self._ready) >= _READ_AHEAD:
                self._low.clear()
                await self._low.wait()
        self._ended = True
        self._changed.set()

    def end(self) -> None:
        """Hand out nothing more."""
        self._ready.clear()
        self._ended = True
        self._changed.set()

    async def close(self) -> None:
        """Let go of what is read from, such as open files; a thread that hangs is left alone."""
        closing = asyncio.ensure_future(_in_thread(self._close))
        await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)
        _abandon(closing)

    def _read(self) -> list[ItemT]:
        with self._reading:
            return [] if self._ended else list(islice(self._items, _READ_AHEAD))

    def _close(self) -> None:
        with self._reading:
            if isinstance(self._items, Generator):
                self._items.close()


async def _workers(
    supply: _Supply[ItemT],
    work: Callable[[ItemT], Awaitable[None]],
    concurrency: int,
    events: Sequence[asyncio.Event],
) -> None:
    async def worker() -> None:
        while not any(event.is_set() for event in events):
            item = await supply.take()
            if item is None:
                return
            await work(item)

    async with asyncio.TaskGroup() as group:
        filling = group.create_task(supply.fill())
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(worker())
        filling.cancel()


async def _in_thread(function: Callable[[], ResultT]) -> ResultT:
    """Call a function in a thread that nothing waits for, not even the interpreter at its end."""
    loop = asyncio.get_running_loop()
    called: asyncio.Future[ResultT] = loop.create_future()

    def deliver(result: ResultT | None, problem: BaseException | None) -> None:
        if called.cancelled():
            return
        if problem is None:
            called.set_result(cast("ResultT", result))
        else:
            called.set_exception(problem)

    def target() -> None:
        result = problem = None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - handed over to the event loop
            problem = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deliver, result, problem)

    threading.Thread(target=target, name=_READER, daemon=True).start()
    return await called


async def read_in_thread(read: Callable[[], ResultT]) -> ResultT:
    """Call a function that reads, and may take long, in a thread.

    Raises:
        Interrupted: SIGINT or SIGTERM arrived. The thread is left alone if it takes long.
        Exception: What ``read`` raised.
    """
    async with stop_signals() as stop:
        reading = asyncio.ensure_future(_in_thread(read))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                return reading.result()
            await asyncio.wait({reading}, timeout=_CLOSE_SECONDS)
        finally:
            _abandon(reading)
            stopping.cancel()
    raise Interrupted


def still_reading() -> bool:
    """Whether a reading thread was left alone that is still at work."""
    return any(thread.name == _READER for thread in threading.enumerate())


def _abandon(task: "asyncio.Future[Any]") -> None:
    """Cancel a task and ignore its result and its exception."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


@asynccontextmanager
async def _seldom_collecting() -> AsyncIterator[None]:
    """Look for reference cycles a hundred times as seldom: many small records, hardly a cycle.

    At the interpreter's own thresholds the search takes an eighth of the CPU time of a run.
    """
    youngest, *older = gc.get_threshold()
    gc.set_threshold(100 * youngest, *older)
    try:
        yield
    finally:
        gc.set_threshold(youngest, *older)


@asynccontextmanager
async def stop_signals() -> AsyncIterator[asyncio.Event]:
    """Yield an event that SIGINT and SIGTERM set; a second signal does what it always did."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            with suppress(ValueError, RuntimeError):
                if loop.remove_signal_handler(number):
                    # The loop puts Python's own handler there, which would raise anywhere.
                    signal.signal(number, handler)

    def arrived() -> None:
        stop.set()
        restore()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Not in the main thread (a notebook's helper thread) or not on this system: go without.
        with suppress(ValueError, RuntimeError, NotImplementedError):
            handler = signal.getsignal(number)
            loop.add_signal_handler(number, arrived)
            before[number] = handler
    try:
        yield stop
    finally:
        restore()


async def each(
    items: Sequence[ItemT],
    work: Callable[[ItemT], Awaitable[ResultT]],
    *,
    concurrency: int,
) -> list[ResultT]:
    """Return one result per item, at most ``concurrency`` being worked on at once.

    Raises:
        Interrupted: SIGINT or SIGTERM arrived; work in flight was given time to finish.
        Exception: The first one that ``work`` raised; the rest was cancelled.
    """
    results: dict[int, ResultT] = {}

    async def one(place: int) -> None:
        results[place] = await work(items[place])

    await run_all(iter(range(len(items))), one, concurrency=concurrency)
    return [results[place] for place in range(len(items))]


def run_sync(start: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
    """Run a coroutine to its end, also where an event loop is already running.

    In a running loop (a notebook) it gets its own loop in another thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(start())
    outcome: list[ResultT] = []
    problem: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(start()))
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            problem.append(error)

    thread = threading.Thread(target=target, name="rlaif")
    thread.start()
    thread.join()
    if problem:
        raise problem[0]
    return outcome[0]
