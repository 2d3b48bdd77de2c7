"""Asking an engine in tests: one request, or many at once."""

import asyncio
from typing import Any

import pytest

from rlaif.engines import Generate, Reply, Sampling
from rlaif.engines.openai.engine import OpenAIEngine, build_openai_engine
from rlaif.errors import CallFailed, EngineMissing, EngineUnavailable
from rlaif.records import Message
from tests.engines.faults import FaultServer

MESSAGES: tuple[Message, ...] = ({"role": "user", "content": "Say something."},)

by_both_transports = pytest.mark.parametrize("transport", ["sdk", "fast"])


def request(seed: int = 1) -> Generate:
    return Generate(MESSAGES, Sampling(), (seed,))


def engine_for(*servers: FaultServer, **options: Any) -> OpenAIEngine:
    urls = [server.base_url for server in servers]
    return build_openai_engine(model="test-model", options={"base_urls": urls, **options})


async def ask_many(engine: OpenAIEngine, count: int) -> list[Reply | BaseException]:
    """Ask ``count`` different requests at once; an error stands in the place of its reply."""

    async def one(seed: int) -> Reply | BaseException:
        try:
            return (await engine.ask(request(seed)))[0]
        except (CallFailed, EngineUnavailable, EngineMissing) as problem:
            return problem

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(seed)) for seed in range(count)]
    return [task.result() for task in tasks]
