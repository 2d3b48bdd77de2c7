"""Asking again: an engine that shifts seeds, so that the same judge draws anew."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from rlaif.engines import Capability, Engine, Generate, Reply, Request
from rlaif.records import content_seed

_REPETITION: ContextVar[int] = ContextVar("repetition", default=0)


@contextmanager
def repetition(number: int) -> Iterator[None]:
    """Within it, and in tasks started within it, seeds are those of this repetition; 0 is plain."""
    token = _REPETITION.set(number)
    try:
        yield
    finally:
        _REPETITION.reset(token)


class ReseededEngine:
    """An engine whose sampled requests get the seeds of the current `repetition`.

    Attributes:
        sampled: Whether any request was sampled (temperature above 0), so that asking again can
            give another answer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.sampled = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """The engine's own."""
        return self._engine.identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The engine's own."""
        return self._engine.capabilities

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Ask, with other seeds in a repetition."""
        if isinstance(request, Generate) and request.sampling.temperature > 0.0:
            self.sampled = True
            number = _REPETITION.get()
            if number:
                seeds = tuple(content_seed(number, "repeat", seed) for seed in request.seeds)
                request = replace(request, seeds=seeds)
        return await self._engine.ask(request)

    async def aclose(self) -> None:
        """Close the engine."""
        await self._engine.aclose()
