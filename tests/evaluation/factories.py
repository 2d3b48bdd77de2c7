"""Groups, rules and engines with one obvious default each."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlaif.constitution import Constitution, Principle, Rule
from rlaif.engines import Capability, Generate, Reply, Request, Score, Usage
from rlaif.errors import CallFailed
from rlaif.evaluation.measure import Group
from rlaif.records import Prompt, Response


def group(
    prompt_id: str,
    *texts: str | None,
    tags: Sequence[str] = (),
    finish: str = "stop",
    tokens: int | None = None,
) -> Group:
    """One prompt and its responses; None stands for a sample that failed."""
    prompt = Prompt.build(f"What about {prompt_id}?", id=prompt_id, tags=tags)
    responses = tuple(
        Response.build(prompt_id, text, index=index, finish=finish, tokens=tokens)
        for index, text in enumerate(texts)
        if text is not None
    )
    return Group(prompt, responses, len(texts))


def rule(
    principle_id: str, *, weight: float = 1.0, applies_to: Sequence[str] = (), **checks: Any
) -> Principle:
    return Principle(
        id=principle_id,
        statement=f"Keep {principle_id}.",
        kind="rule",
        weight=weight,
        applies_to=tuple(applies_to),
        rule=Rule(**checks),
    )


BRIEF = rule("brief", max_words=3)
SHOUTS = rule("shouts", must_match="!")


def constitution(*principles: Principle) -> Constitution:
    return Constitution(name="test", version="1", principles=principles or (BRIEF,))


class Talker:
    """An engine that says what a function of prompt and seed says; None makes the call fail.

    It scores a continuation as −1 per word, one token a word.
    """

    def __init__(
        self,
        name: str,
        say: Callable[[str, int], str | None],
        *,
        can: frozenset[Capability] = frozenset(
            {Capability.GENERATE, Capability.SAMPLES, Capability.SCORE}
        ),
    ) -> None:
        self._name = name
        self._say = say
        self.capabilities = can
        self.asked: list[Request] = []

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"engine": "talker", "model": self._name}

    async def ask(self, request: Request) -> Sequence[Reply]:
        self.asked.append(request)
        if isinstance(request, Score):
            words = len(request.continuation.split())
            return [Reply(logprob=-1.0 * words, scored_tokens=words)]
        assert isinstance(request, Generate)
        replies = []
        for seed in request.seeds:
            text = self._say(request.messages[-1]["content"], seed)
            if text is None:
                raise CallFailed("it broke", kind="http-500", attempts=3)
            replies.append(Reply(text, usage=Usage(completion_tokens=len(text.split()))))
        return replies

    async def aclose(self) -> None:
        pass


def coin(text: str, seed: int) -> bool:
    """A fair coin that belongs to the text and the seed."""
    return hashlib.sha256(f"{text} {seed}".encode()).digest()[0] % 2 == 0
