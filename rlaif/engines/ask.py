"""Ask for several things at once; a failed call does not affect the others."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from rlaif.engines.protocol import Engine, Reply, Request
from rlaif.errors import CallFailed

T = TypeVar("T")


async def run_together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines side by side; results in their order.

    Raises:
        Exception: What the first of them raised, as itself and not in a group, after the others
            were cancelled. So a server that is down is one `EngineUnavailable`, however deep.
    """
    if len(work) < 2:  # a task would cost more than most calls do themselves
        return [await one for one in work]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except BaseExceptionGroup as problems:
        raise problems.exceptions[0] from None
    return [task.result() for task in tasks]


async def ask_all(
    engine: Engine, requests: Sequence[Request]
) -> list[Sequence[Reply] | CallFailed]:
    """Ask everything concurrently; a call that failed for good is returned in its place.

    Raises:
        EngineUnavailable: The model or server is down.
    """
    return await run_together([ask_one(engine, request) for request in requests])


async def ask_one(engine: Engine, request: Request) -> Sequence[Reply] | CallFailed:
    """Ask one thing; a call that failed for good is returned in place of its replies.

    Raises:
        EngineUnavailable: The model or server is down.
    """
    try:
        return await engine.ask(request)
    except CallFailed as problem:
        return problem
