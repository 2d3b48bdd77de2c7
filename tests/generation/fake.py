"""A tiny engine for these tests: a function answers, and every request is recorded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlaif.engines import Capability, Generate, Reply, Request

GENERATE = frozenset({Capability.GENERATE})


@dataclass
class FakeEngine:
    answer: Callable[[Generate, int], Reply]
    capabilities: frozenset[Capability] = GENERATE
    identity: Mapping[str, Any] = field(default_factory=lambda: {"engine": "fake"})
    requests: list[Generate] = field(default_factory=list)

    async def ask(self, request: Request) -> Sequence[Reply]:
        assert isinstance(request, Generate)
        self.requests.append(request)
        return [self.answer(request, seed) for seed in request.seeds]

    async def aclose(self) -> None:
        """Nothing to close."""
