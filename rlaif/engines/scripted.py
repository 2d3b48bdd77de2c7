"""Engine ``scripted``: answers come from a function of yours, or from a ready-made behaviour.

For tests, rehearsals and demonstrations: everything around the model is real, only the model is
not. Answers should be functions of the request (and of the seed) alone, as a model's are; then a
run can be killed, resumed and spread over workers, and gives the same rows.
"""

import asyncio
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import Field

from rlaif.config import Settings, load_config, nearest
from rlaif.engines.ask import run_together
from rlaif.engines.protocol import Capability, Generate, Label, Reply, Request, Score, Usage
from rlaif.errors import CallFailed, EngineError, EngineMissing
from rlaif.records import Message, canonical_json, content_uniform

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
        capabilities: What it claims to support (default: everything).
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
        """The capabilities it was built with."""
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


_WORDS = (
    *("able", "about", "after", "also", "answer", "ask", "back", "better", "book", "bread", "call"),
    *("care", "change", "city", "clear", "close", "day", "early", "earth", "easy", "every", "fact"),
    *("few", "find", "food", "friend", "garden", "gentle", "give", "good", "green", "hand", "help"),
    *("home", "house", "idea", "keep", "kind", "know", "learn", "light", "line", "little", "long"),
)
_WORD_OF_BYTE = [_WORDS[byte % len(_WORDS)] for byte in range(256)]
_SHORTEST, _LONGEST = 3, 62
_REFUSAL = "I would rather not help with that."
_MASS = 0.98
"""Probability of all labels together; the rest would be other words."""

_FENCED = re.compile(r"^<([a-z0-9_]+_[0-9a-f]{6,})>\n(.*?)\n</\1>$", re.MULTILINE | re.DOTALL)


class ScriptedOptions(Settings):
    """Everything below ``options:`` of an engine ``scripted``.

    A run file can name a behaviour: ``engine: scripted, model: echo``. All of them write the same
    kind of text, made of plain words chosen by a hash of the messages
    and the seed; they differ in how they judge:

    - ``echo``: no opinion, every label is equally likely;
    - ``judge-longer``: prefers the longer of the two last fenced texts, the first label standing
      for the first of them;
    - ``judge-random``: label log-probabilities drawn by a hash of the messages.

    Whatever looks random here belongs to the content, so it is the same in every process and
    order.
    """

    position_bias: float = Field(
        0.0, allow_inf_nan=False, description="Added to the log-odds of the first label."
    )
    noise: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Log-odds move by up to ± this, by content."
    )
    failure_rate: float = Field(
        0.0, ge=0, le=1, description="Share of conversations for which every call fails."
    )
    refusal_rate: float = Field(0.0, ge=0, le=1, description="Share of texts that are refusals.")
    latency_ms: float = Field(0.0, ge=0, allow_inf_nan=False)


class _Holder(Settings):
    options: ScriptedOptions = ScriptedOptions()


def build_scripted_engine(
    *, model: str, options: Mapping[str, Any] | None = None
) -> ScriptedEngine:
    """Return a scripted engine with a ready-made behaviour.

    Args:
        model: ``echo``, ``judge-longer`` or ``judge-random``.
        options: See `ScriptedOptions`.

    Raises:
        EngineMissing: No such behaviour.
        ConfigError: A wrong option.
    """
    if model not in _OPINIONS:
        raise EngineMissing(
            f"unknown scripted behaviour {model!r}{nearest(model, sorted(_OPINIONS))}"
        )
    settings = load_config(_Holder, {"options": dict(options or {})}).options
    return ScriptedEngine(
        partial(_answer, model, settings),
        name=model,
        capabilities=frozenset(Capability) - {Capability.STRUCTURED, Capability.REWARD},
        latency=settings.latency_ms / 1000,
        settings=settings.model_dump(exclude={"latency_ms"}),
    )


def _answer(model: str, options: ScriptedOptions, request: Request, seed: int | None) -> Answer:
    messages = request.messages
    if options.failure_rate and content_uniform(0, "failure", messages) < options.failure_rate:
        return CallFailed("the script lets this conversation fail", kind="scripted")
    match request:
        case Generate():
            if request.sampling.temperature == 0:
                seed = None
            rate = options.refusal_rate
            if rate and content_uniform(0, "refusal", messages, seed) < rate:
                return Reply(_REFUSAL, finish="refusal", usage=_usage(request, 8))
            return _write(request, seed)
        case Label():
            logits = _OPINIONS[model](request)
            if logits is None:
                return CallFailed("the prompt shows no two fenced texts", kind="scripted")
            return _judge(request, logits, options)
        case Score():
            return _score(request)


def _write(request: Generate, seed: int | None) -> Reply:
    digest = _digest(request.messages, request.stub, seed)
    count = _SHORTEST + digest[0] % (_LONGEST - _SHORTEST + 1)
    shown = min(count, request.sampling.max_tokens)
    text = " ".join(map(_WORD_OF_BYTE.__getitem__, digest[1 : shown + 1]))
    finish = "stop"
    if shown < count:
        finish = "length"
    else:
        text = f"{text.capitalize()}."
    for stop in request.sampling.stop:
        before, found, _ = text.partition(stop)
        if found:
            text, finish = before, "stop"
    return Reply(text, finish=finish, usage=_usage(request, shown))


def _no_opinion(request: Label) -> Sequence[float] | None:
    return [0.0] * len(request.labels)


def _prefer_longer(request: Label) -> Sequence[float] | None:
    shown = [m[2] for message in request.messages for m in _FENCED.finditer(message["content"])]
    if len(shown) < 2:
        return None
    first, second = len(shown[-2]), len(shown[-1])
    difference = 6.0 * (first - second) / max(first, second, 1)
    return [difference / 2, -difference / 2, *[-10.0] * (len(request.labels) - 2)]


def _draw_opinion(request: Label) -> Sequence[float] | None:
    return [
        6.0 * content_uniform(0, "label", request.messages, request.stub, label) - 3.0
        for label in request.labels
    ]


_OPINIONS = {"echo": _no_opinion, "judge-longer": _prefer_longer, "judge-random": _draw_opinion}


def _judge(request: Label, logits: Sequence[float], options: ScriptedOptions) -> Reply:
    noise = 0.0
    if options.noise:
        drawn = content_uniform(0, "noise", request.messages, request.labels)
        noise = options.noise * (2.0 * drawn - 1.0)
    moved = [logits[0] + options.position_bias + noise, *logits[1:]]
    highest = max(moved)
    total = highest + math.log(sum(math.exp(logit - highest) for logit in moved))
    logprobs = tuple(logit - total + math.log(_MASS) for logit in moved)
    best = request.labels[moved.index(highest)]
    return Reply(best, label_logprobs=logprobs, usage=_usage(request, 1))


def _score(request: Score) -> Reply | CallFailed:
    words = len(request.continuation.split())
    if not words:
        return CallFailed("the continuation is empty: there is nothing to score", kind="empty")
    drawn = content_uniform(0, "score", request.messages, request.continuation)
    return Reply(logprob=-words * (1.0 + 2.0 * drawn), scored_tokens=words, usage=_usage(request))


def _digest(messages: Sequence[Message], stub: str, seed: int | None) -> bytes:
    return hashlib.blake2b(canonical_json([messages, stub, seed]), digest_size=64).digest()


def _usage(request: Request, written: int = 0) -> Usage:
    letters = sum(len(message["content"]) for message in request.messages)
    return Usage(prompt_tokens=letters // 4 + 1, completion_tokens=written)
