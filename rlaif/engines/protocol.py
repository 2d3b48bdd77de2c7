"""The engine protocol: the one door to models.

An engine answers three kinds of request: *generate* text, give the log-probabilities of a few
*labels* as the next token, and *score* a given continuation. It declares which it can do; callers
check before a run starts. Whatever wraps an engine (the recorder with its ledger, for one) speaks
the same protocol.

Requests are frozen and JSON-compatible through `request_key`, which is what makes every call a
content-addressed fact: equal keys mean the same question to the same model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, Protocol, assert_never, runtime_checkable

from rlaif.errors import EngineMissing, ModelUnknown
from rlaif.records import Message, content_id


class Capability(Enum):
    """What an engine can do beyond plain text."""

    GENERATE = "generate"
    SAMPLES = "samples"
    """Several samples of one prompt in one call (one reply per seed)."""

    TOP_LOGPROBS = "top-logprobs"
    """Log-probabilities of the few most likely next tokens: a label outside them is unknown."""

    LABEL_LOGPROBS = "label-logprobs"
    """Exact log-probabilities of any label, whatever its rank."""

    SCORE = "score"
    """Log-probability of a given continuation."""

    REWARD = "reward"
    """A score of a given continuation, on a scale of the model's own (`Reply.score`)."""

    STRUCTURED = "structured"
    """Replies constrained to a JSON schema or a list of choices."""

    PREFILL = "prefill"
    """The assistant's reply can be started by the caller (``stub``)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw from the model. Always sent in full: servers have other defaults."""

    temperature: float = 1.0
    """≥ 0; 0 takes the most likely token."""

    top_p: float = 1.0
    """In (0, 1]."""

    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    """Strings that end the reply; not part of it."""

    extra: tuple[tuple[str, Any], ...] = ()
    """Further server parameters, passed through and part of the key."""


_Keys = dict[int | None, tuple[Mapping[str, Any], str]]
"""What `request_key` found for one request: by seed, the identity and the key."""


@dataclass(frozen=True, slots=True)
class Generate:
    """Ask for text. One reply per seed."""

    messages: tuple[Message, ...]
    sampling: Sampling
    seeds: tuple[int, ...]
    """One per sample, derived from content. Engines that cannot seed ignore the values."""

    stub: str = ""
    """Text the assistant's reply starts with; not repeated in the reply. Needs PREFILL."""

    choices: tuple[str, ...] = ()
    """The only allowed replies. Needs STRUCTURED."""

    schema: str = ""
    """JSON Schema, as canonical JSON text, that the reply must satisfy. Needs STRUCTURED."""

    purpose: str = ""
    """What it is for, such as ``sample`` or ``judge``: for counting, never part of the key."""

    _keys: _Keys = field(default_factory=dict, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Label:
    """Ask how likely each label is as the next token of the assistant's reply. One reply."""

    messages: tuple[Message, ...]
    labels: tuple[str, ...]
    """Two or more, such as ("A", "B"). A label counts with and without a leading space."""

    stub: str = ""
    """Text the assistant's reply starts with. Needs PREFILL."""

    purpose: str = ""
    _keys: _Keys = field(default_factory=dict, init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Score:
    """Ask for the summed log-probability of a continuation as the assistant's reply. One reply."""

    messages: tuple[Message, ...]
    continuation: str
    purpose: str = ""
    _keys: _Keys = field(default_factory=dict, init=False, repr=False, compare=False)


Request = Generate | Label | Score


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply; zero when the engine did not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """The part of ``prompt_tokens`` that was served from a prefix cache."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, before anything parses it."""

    text: str = ""
    finish: str = "stop"
    """``stop``, ``length``, ``refusal`` (the server's own filter) or the server's word."""

    label_logprobs: tuple[float | None, ...] = ()
    """Natural logarithms, one per label of the request; None where the server did not report it.
    With and without a leading space are summed as probabilities."""

    logprob: float | None = None
    """Summed natural log-probability of the continuation (Score)."""

    scored_tokens: int | None = None
    """Tokens of the continuation (Score)."""

    score: float | None = None
    """What a reward model gives the continuation (Score); higher is better, else without unit."""

    usage: Usage = Usage()
    reasoning: str = ""
    """What the model thought first. Kept in the ledger; never part of a response or a verdict."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dictionary of what it says; `Reply.from_json` reads it back."""
        # By hand, because `asdict` copies deeply and is the dearest part of keeping a reply.
        usage = self.usage
        data: dict[str, Any] = {
            "text": self.text,
            "finish": self.finish,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cached_tokens": usage.cached_tokens,
            },
        }
        if self.label_logprobs:
            data["label_logprobs"] = self.label_logprobs
        if self.logprob is not None:
            data["logprob"] = self.logprob
        if self.scored_tokens is not None:
            data["scored_tokens"] = self.scored_tokens
        if self.score is not None:
            data["score"] = self.score
        if self.reasoning:
            data["reasoning"] = self.reasoning
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Reply":
        """Read what `to_json` wrote."""
        fields = dict(data)
        fields["usage"] = Usage(**fields.get("usage", {}))
        fields["label_logprobs"] = tuple(fields.get("label_logprobs", ()))
        return cls(**fields)


@runtime_checkable
class Engine(Protocol):
    """A model that can be asked. Safe to call concurrently from one event loop."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Whatever can change an answer: engine, model, revision or weights hash, base_url, dtype.

        JSON-compatible, without secrets; part of every ledger key.
        """
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this engine can do; known before the first call."""
        ...

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Answer: one reply per seed for Generate, exactly one for Label and Score.

        Raises:
            CallFailed: This call failed for good (after the engine's own retries).
            EngineUnavailable: The model or server is down; nothing else will succeed either.
        """
        ...

    async def aclose(self) -> None:
        """Release the model or connections. Safe to call twice."""
        ...


@runtime_checkable
class Priced(Protocol):
    """An engine that knows what its replies cost."""

    def price(self, usage: Usage) -> float | None:
        """What one reply with this usage cost; None when no price is known, never 0 for that."""
        ...


@runtime_checkable
class Wasteful(Protocol):
    """An engine whose server may bill for replies that cannot be used."""

    def take_wasted(self) -> Usage | None:
        """Return the tokens of such replies since this was last asked; None for none."""
        ...


@runtime_checkable
class Lasting(Protocol):
    """An engine whose calls can outlive the process, such as batches that take hours."""

    def keep_state(self, folder: Path) -> None:
        """Keep what must survive a crash in this folder, and take up what is in it already.

        Called before the first `Engine.ask`. It may be missing; no other process writes to it.

        Raises:
            ConfigError: It holds calls that were paid for and that this engine cannot take up.
        """
        ...

    def settle(self) -> None:
        """Forget what was handed out: every reply so far is safe elsewhere."""
        ...

    def pending(self) -> str:
        """What is waited for beyond single calls, in a few words; empty when nothing is."""
        ...


@runtime_checkable
class Batching(Protocol):
    """An engine that may collect calls for hours before it sends them."""

    @property
    def batching(self) -> bool:
        """Whether it does, so that holding calls back until one is answered would take too long."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of itself."""

    address: str
    models: tuple[str, ...] = ()
    """What it lists; empty where it gives no list."""

    refused: str = ""
    """Its words, where it refuses the list because of the key."""


@runtime_checkable
class Remote(Protocol):
    """An engine whose model is behind a server: whether it works shows only when it is asked."""

    async def look(self) -> Served:
        """Ask the server for its list of models; a server that is down is not waited for.

        Raises:
            EngineUnavailable: It cannot be reached.
        """
        ...

    def unlisted(self) -> ModelUnknown | None:
        """Return the error for a model that is not in the list; None where there is no list."""
        ...

    def takes(self) -> Mapping[str, Any]:
        """Return what is known of the fields that not every server takes, JSON-compatible."""
        ...


class Written(NamedTuple):
    """What an engine has generated so far."""

    samples: int
    tokens: int

    def __add__(self, other: "Written") -> "Written":  # type: ignore[override]
        return Written(self.samples + other.samples, self.tokens + other.tokens)


@runtime_checkable
class Counting(Protocol):
    """An engine that knows what it has generated before a call is answered."""

    def written(self) -> Written:
        """Return what was generated since it was opened, calls in flight included."""
        ...


def is_batching(engine: Engine) -> bool:
    """Whether an engine collects calls before it sends them."""
    return isinstance(engine, Batching) and engine.batching


def request_key(identity: Mapping[str, Any], request: Request, seed: int | None = None) -> str:
    """Return the ledger key of one reply: everything that can change it, nothing else.

    ``seed`` picks one sample of a Generate request; ``purpose`` is left out on purpose. Who records
    a call and who keeps what came of it both ask, so a request remembers its keys.
    """
    known = request._keys.get(seed)
    if known is not None and known[0] is identity:
        return known[1]
    key = content_id("call", type(request).__name__, identity, _asked(request, seed))
    request._keys[seed] = identity, key
    return key


def _asked(request: Request, seed: int | None) -> tuple[Any, ...]:
    match request:
        case Generate(messages, sampling, _, stub, choices, schema):
            return messages, sampling, seed, stub, choices, schema
        case Label(messages, labels, stub):
            return messages, labels, stub
        case Score(messages, continuation):
            return messages, continuation
        case _:
            assert_never(request)


def require(engine: Engine, *needed: Capability, who: str) -> None:
    """Check that an engine can do what a role needs.

    Raises:
        EngineMissing: Names the role, what it needs and what the engine can do.
    """
    missing = [capability.value for capability in needed if capability not in engine.capabilities]
    if missing:
        can = ", ".join(sorted(capability.value for capability in engine.capabilities))
        raise EngineMissing(
            f"{who} needs {', '.join(missing)}, which its engine cannot do (it can: {can})",
            hint="choose another engine or another method for this role",
        )


def log_sum(values: Sequence[float]) -> float | None:
    """Return the logarithm of the summed probabilities, at most 0; None for none."""
    if not values:
        return None
    top = max(values)
    return min(0.0, top + math.log(sum(math.exp(value - top) for value in values)))
