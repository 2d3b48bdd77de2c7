"""Engine ``scripted``: answers come from a function of yours, or from a ready-made behaviour.

For tests, rehearsals and demonstrations: everything around the model is real, only the model is
not. Answers should be functions of the request (and of the seed) alone, as a model's are; then a
run can be killed, resumed and spread over workers, and gives the same rows.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from rlaif.engines.ask import run_together
from rlaif.engines.protocol import Capability, Generate, Reply, Request
from rlaif.errors import EngineError

Answer = Reply | str | Exception
"""A reply, the text of one, or what to raise."""

AnswerFunction = Callable[[Request, int | None], Answer | Coroutine[Any, Any, Answer]]
"""Plain or async. Called with the request and the seed: once per seed of a Generate request (side
by side when async), once with None for Label and Score."""


class ScriptedEngine:
    """An engine whose answers are given by a function.

    Args:
        answer: What to answer. An exception, returned or raised, is what the asker gets.
        name: Its model name. Give different scripts different names: it is what tells their
            answers apart in a ledger.
        capabilities: What it says it can do; everything, unless told otherwise.
        latency: Seconds each call takes.
        settings: Further things that change answers, JSON-compatible; part of the identity.

    Attributes:
        asked: How many replies were asked for, by purpose.
    """

    def __init__(
        self,
        answer: AnswerFunction,
        *,
        name: str = "scripted",
        capabilities: frozenset[Capability] = frozenset(Capability),
        latency: float = 0.0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._answer = answer
        self._capabilities = capabilities
        self._latency = latency
        self._identity = {"engine": "scripted", "model": name, **(settings or {})}
        self._closed = False
        self.asked: Counter[str] = Counter()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The name, and whatever changes answers."""
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it was told to offer."""
        return self._capabilities

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Answer, as `rlaif.engines.Engine.ask` says, with whatever the script says."""
        if self._closed:
            raise EngineError("the scripted engine was closed")
        seeds = request.seeds if isinstance(request, Generate) else (None,)
        self.asked[request.purpose] += len(seeds)
        # Even without latency a call lets others run, as any other engine does.
        await asyncio.sleep(self._latency)
        answers = [self._answer(request, seed) for seed in seeds]
        if any(isinstance(one, Coroutine) for one in answers):
            answers = await run_together([_settle(one) for one in answers])
        return [_reply(one) for one in answers]

    async def aclose(self) -> None:
        """Refuse further calls. Safe to call twice."""
        self._closed = True


async def _settle(answer: Answer | Coroutine[Any, Any, Answer]) -> Answer:
    return await answer if isinstance(answer, Coroutine) else answer


def _reply(answer: Answer | Coroutine[Any, Any, Answer]) -> Reply:
    match answer:
        case Reply():
            return answer
        case str():
            return Reply(text=answer)
        case Exception():
            raise answer
        case _:
            raise TypeError(f"a script must answer with a Reply, text or exception, not {answer!r}")
