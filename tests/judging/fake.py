"""A tiny engine and a few records for these tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlaif.constitution import Principle
from rlaif.engines import Capability, Reply, Request
from rlaif.records import Comparison, Prompt, Response

PROMPT = Prompt.build("How long does an egg take?", id="egg")
FIRST = Response.build("egg", "Eight minutes.", index=0)
SECOND = Response.build("egg", "It depends on many things.", index=1)
COMPARISON = Comparison(FIRST, SECOND)
BRIEF = Principle(id="brief", statement="Be brief.", comparison="Which response is shorter?")
KIND = Principle(id="kind", statement="Be kind.", opposite="Be rude.")


@dataclass
class FakeEngine:
    answer: Callable[[Request], Reply]
    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.GENERATE,
            Capability.LABEL_LOGPROBS,
            Capability.SCORE,
            Capability.PREFILL,
        }
    )
    identity: Mapping[str, Any] = field(default_factory=lambda: {"engine": "fake"})
    asked: list[Request] = field(default_factory=list)

    async def ask(self, request: Request) -> Sequence[Reply]:
        self.asked.append(request)
        return [self.answer(request)]

    async def aclose(self) -> None:
        """Nothing to close."""


def always(reply: Reply) -> Callable[[Request], Reply]:
    def answer(_: Request) -> Reply:
        return reply

    return answer


def first_is_shown_as_a(request: Request) -> bool:
    words = "".join(message["content"] for message in request.messages)
    return words.index(FIRST.text) < words.index(SECOND.text)
