"""Each: the same asynchronous work on many items, with the results in the order of the items."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from rlaif.pipeline.executor import run_all

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


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
