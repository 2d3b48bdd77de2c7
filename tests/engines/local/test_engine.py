import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif.engines import Generate, Label, Reply, Sampling, Score
from rlaif.engines.local.decode import Decoder
from rlaif.engines.local.forward import Forward
from rlaif.errors import CallFailed, EngineError, EngineMissing
from tests.engines.local.brute import user
from tests.engines.local.conftest import Opener
from tests.engines.tiny import CONTEXT

PROMPT = user("How do I boil an egg?")
LONG = Generate(PROMPT, Sampling(max_tokens=120, stop=("never there",)), (1, 2))
LABEL = Label(PROMPT, ("A", "B"))


def fail_on(
    monkeypatch: pytest.MonkeyPatch, when: Callable[[torch.Tensor], bool], error: Exception
) -> list[int]:
    """Let forward passes of certain inputs fail; return how many rows the others had."""
    rows: list[int] = []
    original = Forward._call

    def call(self: Forward, ids: torch.Tensor, *arguments: Any, **keywords: Any) -> torch.Tensor:
        if when(ids):
            raise error
        rows.append(len(ids))
        return original(self, ids, *arguments, **keywords)

    monkeypatch.setattr(Forward, "_call", call)
    return rows


async def test_an_asker_that_goes_away_does_not_disturb_the_others(open_tiny: Opener) -> None:
    async with open_tiny() as engine:
        expected = await engine.ask(LONG)
        leaving = asyncio.create_task(engine.ask(Generate(PROMPT, LONG.sampling, (3, 4, 5))))
        staying = asyncio.create_task(engine.ask(LONG))
        await asyncio.sleep(0.02)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await staying == expected


async def test_an_over_long_prompt_fails_its_own_call_only(open_tiny: Opener) -> None:
    too_long = user("the lazy dog " * CONTEXT)
    async with open_tiny() as engine:
        for request in (
            Generate(too_long, Sampling(), (1,)),
            Label(too_long, ("A", "B")),
            Score(PROMPT, "the lazy dog " * CONTEXT),
        ):
            with pytest.raises(CallFailed, match=str(CONTEXT)) as failure:
                await engine.ask(request)
            assert failure.value.kind == "context-length"
        assert len(await engine.ask(LABEL)) == 1


async def test_messages_the_chat_template_refuses_fail_their_own_call(
    open_tiny: Opener, tmp_path: Path
) -> None:
    template = tmp_path / "strict.jinja"
    template.write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    async with open_tiny(chat_template=str(template)) as engine:
        with pytest.raises(CallFailed, match="no system role") as failure:
            await engine.ask(Label(user("Yes.", system="Be brief."), ("A", "B")))
        assert failure.value.kind == "chat-template"
        assert len(await engine.ask(LABEL)) == 1


async def test_variables_reach_the_chat_template_and_the_identity(
    open_tiny: Opener, tmp_path: Path
) -> None:
    template = tmp_path / "with_variable.jinja"
    template.write_text("{{ mood }} {{ messages[0].content }}")
    path = str(template)
    async with open_tiny(chat_template=path, chat_template_kwargs={"mood": "calm"}) as engine:
        calm, calm_identity = await engine.ask(LABEL), engine.identity
    async with open_tiny(chat_template=path, chat_template_kwargs={"mood": "wild"}) as engine:
        assert await engine.ask(LABEL) != calm
        assert engine.identity != calm_identity


@pytest.mark.parametrize(
    "request_",
    [
        Generate(PROMPT, Sampling(), (1,), choices=("A", "B")),
        Generate(PROMPT, Sampling(), (1,), schema="{}"),
        Generate(PROMPT, Sampling(extra=(("min_p", 0.1),)), (1,)),
    ],
    ids=["choices", "schema", "extra"],
)
async def test_what_it_cannot_do_it_refuses(open_tiny: Opener, request_: Generate) -> None:
    async with open_tiny() as engine:
        with pytest.raises(EngineMissing):
            await engine.ask(request_)


async def test_an_error_in_the_model_reaches_every_asker_and_the_engine_goes_on(
    open_tiny: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_tiny() as engine:
        (expected,) = await engine.ask(LABEL)
        with monkeypatch.context() as patch:
            fail_on(patch, lambda _: True, RuntimeError("the model is on fire"))
            for request in (LONG, LABEL, Score(PROMPT, "A")):
                with pytest.raises(EngineError, match="on fire") as failure:
                    await asyncio.wait_for(engine.ask(request), 20)
                assert isinstance(failure.value.__cause__, RuntimeError)
        (again,) = await engine.ask(LABEL)
        assert again.label_logprobs == pytest.approx(expected.label_logprobs, abs=1e-5)


async def test_a_worker_that_dies_leaves_nobody_waiting(
    open_tiny: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_tiny() as engine:
        pending = asyncio.create_task(engine.ask(LONG))
        await asyncio.sleep(0.02)
        monkeypatch.setattr(Decoder, "room", property(lambda _: 1 / 0))
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            await asyncio.wait_for(pending, 20)
        with pytest.raises(EngineError, match="closed"):
            await asyncio.wait_for(engine.ask(LABEL), 20)


@pytest.mark.slow
def test_a_program_that_forgets_to_close_its_engine_ends_all_the_same(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    program = """
import asyncio, sys
from rlaif.engines import Generate, Sampling, open_engine
engine = open_engine("transformers", model=sys.argv[1], options={"threads": 2})
prompt = ({"role": "user", "content": "Yes."},)
async def main():
    asking = engine.ask(Generate(prompt, Sampling(max_tokens=150, stop=("never there",)), (1, 2)))
    asyncio.create_task(asking)
    await asyncio.sleep(0.05)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_models("llama"))],
        env={**os.environ, "RLAIF_CACHE": str(tmp_path)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


async def test_logits_that_are_not_numbers_are_an_error(
    open_tiny: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Forward._call

    def call(self: Forward, *arguments: Any, **keywords: Any) -> torch.Tensor:
        return original(self, *arguments, **keywords) * float("nan")

    monkeypatch.setattr(Forward, "_call", call)
    async with open_tiny() as engine:
        for request in (LONG, LABEL, Score(PROMPT, "A")):
            with pytest.raises(EngineError, match="NaN or infinite"):
                await engine.ask(request)


async def test_when_memory_runs_out_the_batch_is_halved_and_the_texts_stay(
    open_tiny: Opener, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    requests = [
        Generate(user(f"Which dog? {n * 'Yes. '}"), Sampling(max_tokens=20), (n, n + 1))
        for n in range(4)
    ]

    async def ask(engine: Any) -> list[Reply]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(engine.ask(request)) for request in requests]
        return [reply for task in tasks for reply in task.result()]

    async with open_tiny(kind) as engine:
        expected = await ask(engine)
    async with open_tiny(kind, max_wait_ms=20) as engine:
        passed = fail_on(monkeypatch, lambda ids: len(ids) > 3, torch.OutOfMemoryError("full"))
        assert await ask(engine) == expected
        assert max(passed) <= 3


async def test_when_memory_runs_out_readings_are_halved(
    open_tiny: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [Label(user(f"Yes. {n * 'No. '}"), ("A", "B")) for n in range(5)]
    async with open_tiny(max_wait_ms=50) as engine:
        expected = [(await engine.ask(request))[0].label_logprobs for request in requests]
        passed = fail_on(monkeypatch, lambda ids: len(ids) > 1, torch.OutOfMemoryError("full"))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(engine.ask(request)) for request in requests]
        for task, values in zip(tasks, expected, strict=True):
            assert task.result()[0].label_logprobs == pytest.approx(values, abs=1e-5)
        assert set(passed) == {1}


async def test_a_call_that_does_not_fit_alone_fails_alone(
    open_tiny: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = user("the lazy dog " * 25)
    async with open_tiny() as engine:
        expected = await engine.ask(LONG)
        fail_on(monkeypatch, lambda ids: ids.shape[1] > 60, torch.OutOfMemoryError("full"))
        small = asyncio.create_task(engine.ask(LONG))
        for request in (Generate(big, Sampling(), (1,)), Label(big, ("A", "B"))):
            with pytest.raises(CallFailed) as failure:
                await engine.ask(request)
            assert failure.value.kind == "out-of-memory"
        assert await small == expected


async def test_closing_fails_what_is_under_way_and_frees_the_model(open_tiny: Opener) -> None:
    async with open_tiny(workers=2) as engine:
        model = weakref.ref(engine._workers[0]._forward.model)
        pending = asyncio.create_task(engine.ask(LONG))
        await asyncio.sleep(0.02)
        await engine.aclose()
        with pytest.raises(EngineError, match="closed"):
            await pending
        with pytest.raises(EngineError, match="closed"):
            await engine.ask(LABEL)
        assert "rlaif-transformers" not in {thread.name for thread in threading.enumerate()}
        gc.collect()
        assert model() is None


async def test_torch_keeps_its_number_of_threads(open_tiny: Opener) -> None:
    before = torch.get_num_threads()
    async with open_tiny(threads=2, workers=2) as engine:
        await engine.ask(LABEL)
        assert torch.get_num_threads() == before
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert seen == [before]


async def test_workers_share_one_set_of_weights(open_tiny: Opener) -> None:
    async with open_tiny(workers=2) as engine:
        one, other = (worker._forward.model for worker in engine._workers)
        assert one is not other
        weights = zip(one.parameters(), other.parameters(), strict=True)
        assert all(mine.data_ptr() == theirs.data_ptr() for mine, theirs in weights)
