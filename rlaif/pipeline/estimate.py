"""What a run will ask, before it asks anything: calls, tokens and price by stage.

A sample of the prompts goes through the very code of the run, with engines that count instead of
answering. So the number of calls is exact for the sample, whatever the plan; tokens are estimated.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rlaif.config import RunConfig, load_config
from rlaif.config.run import BudgetConfig
from rlaif.engines import Engine, Generate, Label, Priced, Reply, Request, Score, Usage, request_key
from rlaif.engines.ask import run_together
from rlaif.inputs import PromptSource, check_source, count_records, read_prompts
from rlaif.pipeline.build import Parts, build_parts, prompt_source
from rlaif.pipeline.item import RENDER, never_rendered
from rlaif.records import Failure, Prompt
from rlaif.records.plain import Plain
from rlaif.records.tool_use import spoken, tool_texts
from rlaif.sessions.budget import Budget, Spend
from rlaif.sessions.concurrent import read_in_thread, run_sync
from rlaif.sessions.session import Session

CHARACTERS_PER_TOKEN = 4.0
"""A rule of thumb for English; other scripts take more tokens."""

SAMPLE = 20


@dataclass(slots=True)
class Stage:
    """What one purpose asks of one engine; extrapolated to the whole input."""

    purpose: str
    engine: str
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """At most: every reply is taken to be as long as it may be."""

    price: float | None = None
    """None when no price is known for this engine."""


@dataclass(frozen=True, slots=True)
class Estimate(Plain):
    """What a run will ask."""

    _derived = ("price",)

    prompts: int | None
    """Records in the input; None when they cannot be counted: then figures are per sample."""

    sampled: int
    stages: tuple[Stage, ...]
    exceeded: tuple[str, ...] = ()
    """Limits of the budget that these figures exceed, such as ``max_price: 5``."""

    @property
    def price(self) -> float | None:
        """All known prices together; None when none is known."""
        known = [stage.price for stage in self.stages if stage.price is not None]
        return sum(known) if known else None


def estimate(
    config: str | Path | Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None
) -> Estimate:
    """Say what `generate` would ask with the same arguments. No model is asked, nothing written.

    Where what is asked depends on what was answered (a revision only if the critique found
    something, identical responses left out), the sample assumes the dearer way.

    Raises:
        InputError, EngineMissing, GateRefused: As `generate`.
    """
    return run_sync(lambda: aestimate(config, overrides=overrides))


async def aestimate(
    config: str | Path | Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None
) -> Estimate:
    """The same as `estimate`, to be awaited."""
    settings = load_config(RunConfig, config, overrides)
    async with Session(settings.templates) as session:
        return await estimate_run(session, build_parts(session, settings))


async def estimate_run(session: Session, parts: Parts) -> Estimate:
    """Estimate a run whose parts are built; afterwards the session asks nothing any more."""
    counters = count_calls(session)
    source = prompt_source(parts.settings)
    await read_in_thread(partial(check_source, source))
    sample = await read_in_thread(partial(_sample, source))
    outcomes = await run_together([parts.work.row(prompt) for prompt in sample])
    total = await read_in_thread(partial(count_records, source))
    unrendered = [one for one in outcomes if isinstance(one, Failure) and one.stage == RENDER]
    if len(unrendered) == len(sample):
        raise never_rendered(unrendered)
    stages = scale_up(counters, 1.0 if total is None else total / len(sample))
    return Estimate(total, len(sample), stages, _exceeded(parts.settings.budget, stages))


def count_calls(session: Session) -> "Sequence[CountingEngine]":
    """Let calls of a session be counted from now on in place of being made."""
    counters: list[CountingEngine] = []

    def count(role: str, engine: Engine) -> Engine:
        counters.append(CountingEngine(engine, role))
        return counters[-1]

    session.connect(count)
    return counters


def scale_up(counters: "Sequence[CountingEngine]", factor: float) -> tuple[Stage, ...]:
    """Return what was counted, multiplied."""
    counted = [stage for counter in counters for stage in counter.stages.values()]
    return tuple(_scaled(stage, factor) for stage in counted)


def _exceeded(config: BudgetConfig | None, stages: Sequence[Stage]) -> tuple[str, ...]:
    if config is None:
        return ()
    spent = Spend(
        sum(stage.price or 0.0 for stage in stages),
        sum(stage.calls for stage in stages),
        sum(stage.prompt_tokens + stage.completion_tokens for stage in stages),
    )
    uses = Budget(**config.model_dump(), spent=spent).uses()
    return tuple(f"max_{use.what}: {use.limit:.10g}" for use in uses if use.used > use.limit)


def _sample(source: PromptSource) -> list[Prompt]:
    prompts = (item for item in read_prompts(source) if isinstance(item, Prompt))
    return list(islice(prompts, SAMPLE))


def _scaled(stage: Stage, factor: float) -> Stage:
    return Stage(
        stage.purpose,
        stage.engine,
        round(stage.calls * factor),
        round(stage.prompt_tokens * factor),
        round(stage.completion_tokens * factor),
        None if stage.price is None else stage.price * factor,
    )


@dataclass(slots=True)
class CountingEngine:
    """Counts what would be asked of an engine, and answers with text of the longest length."""

    engine: Engine
    role: str
    stages: dict[str, Stage] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The engine's own."""
        return self.engine.identity

    @property
    def capabilities(self) -> Any:
        """The engine's own."""
        return self.engine.capabilities

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Count each reply that the ledger would not remember; answer with placeholders."""
        seeds = request.seeds if isinstance(request, Generate) else (None,)
        replies = []
        for seed in seeds:
            reply = _longest(request, seed)
            key = request_key(self.identity, request, seed)
            if key not in self._seen:
                self._seen.add(key)
                self._count(request.purpose, reply.usage)
            replies.append(reply)
        return replies

    def _count(self, purpose: str, usage: Usage) -> None:
        stage = self.stages.setdefault(purpose, Stage(purpose, self.role))
        stage.calls += 1
        stage.prompt_tokens += usage.prompt_tokens
        stage.completion_tokens += usage.completion_tokens
        price = self.engine.price(usage) if isinstance(self.engine, Priced) else None
        if price is not None:
            stage.price = (stage.price or 0.0) + price

    async def aclose(self) -> None:
        """Nothing to release: the session closes the engine."""


def _longest(request: Request, seed: int | None) -> Reply:
    said = [message["content"] for message in spoken(request.messages)]
    prompt = sum(map(_tokens, (*said, *tool_texts(request.messages))))
    match request:
        case Generate(sampling=sampling):
            most = int(CHARACTERS_PER_TOKEN * sampling.max_tokens)
            words = f"{seed} {'word ' * sampling.max_tokens}"[:most]  # another text for every seed
            text = request.choices[0] if request.choices else words.strip()
            return Reply(text, usage=Usage(prompt, sampling.max_tokens))
        case Label(labels=labels):
            even = -math.log(len(labels))
            return Reply(label_logprobs=(even,) * len(labels), usage=Usage(prompt, 1))
        case Score(continuation=continuation):
            tokens = _tokens(continuation)
            return Reply(
                logprob=-float(tokens),
                scored_tokens=tokens,
                score=0.0,
                usage=Usage(prompt + tokens, 0),
            )


def _tokens(text: str) -> int:
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)
