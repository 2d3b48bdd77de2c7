"""The engines that the shared tests run against: one entry each, append yours."""

import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rlaif.engines import Engine, Label, open_engine
from rlaif.errors import EngineError
from rlaif.records import Message
from tests.engines.batch_server import serving_batches
from tests.engines.faults import serving


@dataclass(frozen=True)
class Case:
    """An open engine and what can be expected of it."""

    engine: Engine
    too_long: tuple[Message, ...] | None = None
    """A prompt beyond its context; None where there is no limit."""

    tolerance: float = 0.0
    """By how much log-probabilities of the same question may differ from call to call."""


Opener = Callable[[Path], AbstractAsyncContextManager[Case]]
"""Given an empty folder; what it opens, it closes."""


@asynccontextmanager
async def scripted(folder: Path) -> AsyncIterator[Case]:
    engine = open_engine("scripted", model="judge-random")
    yield Case(engine)
    await engine.aclose()


@asynccontextmanager
async def tiny(folder: Path) -> AsyncIterator[Case]:
    from tests.engines.tiny import CONTEXT, make_tiny

    model = make_tiny(folder / "model")
    options = {"threads": 2, "workers": 2, "max_wait_ms": 1}
    engine = open_engine("transformers", model=str(model), options=options)
    too_long: tuple[Message, ...] = ({"role": "user", "content": "the lazy dog " * CONTEXT},)
    yield Case(engine, too_long, tolerance=1e-4)
    await engine.aclose()


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Case]:
    engine = open_engine("transformers", model="smollm2-135m-instruct")
    too_long: tuple[Message, ...] = ({"role": "user", "content": "the lazy dog " * 3000},)
    yield Case(engine, too_long, tolerance=1e-3)
    await engine.aclose()


@asynccontextmanager
async def openai(folder: Path) -> AsyncIterator[Case]:
    async with serving("vllm") as server:
        options = {"score": "vllm", "prefill": True}
        engine = open_engine(
            "openai", model="test-model", base_url=server.base_url, options=options
        )
        yield Case(engine)
        await engine.aclose()


@asynccontextmanager
async def batches(folder: Path) -> AsyncIterator[Case]:
    async with serving_batches() as server:
        batch = {"quiet_s": 0.01, "poll_s": 0.01, "max_poll_s": 0.02}
        options = {"transport": "batch", "batch": batch, "prefill": True}
        engine = open_engine(
            "openai", model="test-model", base_url=server.base_url, options=options
        )
        yield Case(engine)
        await engine.aclose()


_kept: list[Engine] = []


@asynccontextmanager
async def vllm(folder: Path) -> AsyncIterator[Case]:
    """Kept open from test to test, unless one closes it: opening takes half a minute."""
    if not _kept:
        options = {"max_model_len": 2048, "kv_cache_gib": 1}
        _kept.append(open_engine("vllm", model="smollm2-135m-instruct", options=options))
    too_long: tuple[Message, ...] = ({"role": "user", "content": "the lazy dog " * 3000},)
    yield Case(_kept[0], too_long, tolerance=1e-3)
    try:
        await _kept[0].ask(Label(({"role": "user", "content": "A or B?"},), ("A", "B")))
    except EngineError:
        _kept.clear()


CASES: Mapping[str, Opener] = {
    "batches": batches,
    "embedded": embedded,
    "openai": openai,
    "scripted": scripted,
    "tiny": tiny,
    **({"vllm": vllm} if importlib.util.find_spec("vllm") else {}),
}
