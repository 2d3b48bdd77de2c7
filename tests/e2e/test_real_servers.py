"""llama.cpp's server as it really is, with the weights of the embedded engine."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rlaif.engines import Engine, Generate, Label, Sampling, open_engine
from rlaif.errors import CallFailed, EngineMissing, EngineUnavailable
from rlaif.records import Message, Verdict
from tests.engines import agreement, real_servers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.model,
    pytest.mark.timeout(900),
    real_servers.needs_llama_cpp,
]
EMBEDDED = {
    "engine": "transformers",
    "model": real_servers.MODEL,
    "options": {"dtype": "float32"},
}
KEY = "sk-right-0123456789"
QUESTION: tuple[Message, ...] = ({"role": "user", "content": "Which is better, A or B?"},)
LONG: tuple[Message, ...] = ({"role": "user", "content": "the lazy dog " * 3000},)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_servers.llama_cpp(tmp_path_factory.mktemp("llama")) as url:
        yield url


@pytest.fixture
def server(behind: str) -> dict[str, Any]:
    """What a run file says of it."""
    options = {"provider": "llama.cpp"}
    return {"engine": "openai", "model": "small", "base_url": behind, "options": options}


@asynccontextmanager
async def opened(server: dict[str, Any], **changes: Any) -> AsyncIterator[Engine]:
    engine = open_engine(**{**server, **changes})
    yield engine
    await engine.aclose()


@pytest.fixture(scope="module")
def expected() -> list[Verdict]:
    async def judge() -> list[Verdict]:
        async with opened(EMBEDDED) as engine:
            return await agreement.judge_examples(engine)

    return asyncio.run(judge())


async def test_labels_are_near_those_of_the_embedded_engine(server, expected):
    async with opened(server) as engine:
        found = await agreement.judge_examples(engine)
    assert len(found) == 6
    assert max(agreement.differences(found, expected)) < 0.5


async def test_a_run_of_three_kinds_of_judging_finishes(server, tmp_path):
    await agreement.check_run(tmp_path / "project", server)


async def test_a_prompt_that_is_too_long_is_one_failure(server):
    async with opened(server) as engine:
        with pytest.raises(CallFailed, match="exceeds the available context size") as failed:
            await engine.ask(Label(LONG, ("A", "B")))
    assert failed.value.kind == "context-length"
    assert "{" not in failed.value.message


async def test_too_many_samples_for_its_slots_are_asked_one_by_one(server):
    engine: Any
    async with opened(server, options={}) as engine:
        replies = await engine.ask(Generate(QUESTION, Sampling(max_tokens=3), tuple(range(6))))
        assert engine.learned["n"] == "omitted"
    assert len(replies) == 6
    assert all(reply.usage.completion_tokens == 3 for reply in replies)


async def test_llama_cpp_is_asked_for_200_candidates_without_a_preset(behind):
    engine: Any
    async with opened({"engine": "openai", "model": "small", "base_url": behind}) as engine:
        (reply,) = await engine.ask(Label(QUESTION, ("A", "B")))
        assert engine.learned["top_logprobs"] == 200
    assert None not in reply.label_logprobs


async def test_a_key_that_llama_cpp_does_not_take_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WRONG_KEY", "sk-wrong")
    with real_servers.llama_cpp(tmp_path, key=KEY) as url:
        server = {"engine": "openai", "model": "small", "base_url": url}
        async with opened(server, api_key_env="WRONG_KEY") as engine:
            with pytest.raises(EngineMissing, match="does not accept the key") as problem:
                await engine.ask(Label(QUESTION, ("A", "B")))
        assert "WRONG_KEY" in str(problem.value)
    async with opened(server) as engine:  # and now it is gone
        with pytest.raises(EngineUnavailable, match="check that the server runs"):
            await engine.ask(Label(QUESTION, ("A", "B")))
