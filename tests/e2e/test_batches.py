"""Whole runs through batches: the rows of single calls, and nothing paid twice when killed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.auditing import audit_judge
from rlaif.errors import ConfigError
from rlaif.pipeline import Progress
from tests.auditing.planted import write_gold
from tests.e2e.project import COMMAND, row_bytes, write_project
from tests.engines.batch_server import BatchServer, serving_batches

QUICK = {"quiet_s": 0.2, "poll_s": 0.02, "max_poll_s": 0.05}
PROMPTS = 40
PLAIN = {
    "student.options": {"transport": "fast"},
    "judges.0.options": {"transport": "fast"},
}


@pytest.fixture
async def server() -> AsyncIterator[BatchServer]:
    async with serving_batches() as one:
        yield one


def project(folder: Path, server: BatchServer, **changes: Any) -> Path:
    price = {"input_per_million": 1.0, "output_per_million": 10.0}
    model = {
        "engine": "openai",
        "model": "test-model",
        "base_url": server.base_url,
        "options": {"transport": "batch", "batch": QUICK, "price": price},
    }
    return write_project(
        folder,
        prompts=PROMPTS,
        student={**model, "sampling": {"n": 2}},
        judges=[{"name": "main", **model}],
        concurrency=PROMPTS,
        **changes,
    )


async def start(config: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *COMMAND, "generate", str(config), "--json", stdout=-1, stderr=-1
    )


async def test_a_run_through_batches_has_the_rows_of_single_calls_at_half_the_price(
    tmp_path: Path, server: BatchServer
):
    config = project(tmp_path, server)
    server.looks_needed = 10**9

    def until_shown(progress: Progress) -> None:
        if any("batches, 0 of 40 done" in words for words in progress.pending):
            server.looks_needed = 0

    run = await rlaif.agenerate(config, on_progress=until_shown)
    assert len(server.batches) == 2  # a wave of samples, a wave of judgments
    assert not list((tmp_path / "run" / "batches").iterdir())
    options = {"transport": "fast", "price": {"input_per_million": 1, "output_per_million": 10}}
    # Of batches, only the list of models is asked for.
    both = {"student.options": options, "judges.0.options": options, "preflight": False}
    plain = await rlaif.agenerate(config, overrides={**both, "out": str(tmp_path / "plain")})
    assert row_bytes(run.path) == row_bytes(plain.path)
    price, whole = run.status().price, plain.status().price
    assert price is not None
    assert whole is not None
    assert price == pytest.approx(whole / 2)


@pytest.mark.slow
async def test_a_run_killed_at_every_step_of_a_batch_pays_for_nothing_twice(
    tmp_path: Path, server: BatchServer
):
    config = project(tmp_path, server)
    children: list[asyncio.subprocess.Process] = []
    killed_at: list[str] = []

    def kill_once(step: str) -> Callable[..., None]:
        def kill(*_: Any) -> None:
            if step not in killed_at:
                killed_at.append(step)
                children[-1].kill()

        return kill

    server.on_create = kill_once("created, and nobody knows its id")
    server.on_look = kill_once("waited for")
    server.on_content = kill_once("fetched")
    out = errors = b""
    for _ in range(4):
        children.append(await start(config))
        out, errors = await asyncio.wait_for(children[-1].communicate(), 120)
    assert [child.returncode for child in children] == [-9, -9, -9, 0], errors
    assert len(killed_at) == 3
    assert json.loads(out.splitlines()[-1])["rows"] == PROMPTS
    assert len(server.batches) == 2
    assert set(server.paid.values()) == {1}
    overrides = {**PLAIN, "out": str(tmp_path / "plain")}
    plain = await rlaif.agenerate(config, overrides=overrides)
    assert row_bytes(tmp_path / "run") == row_bytes(plain.path)


@pytest.mark.slow
async def test_ctrl_c_leaves_the_batch_out_and_the_next_start_takes_it_up(
    tmp_path: Path, server: BatchServer
):
    config = project(tmp_path, server)
    server.looks_needed = 10**9
    child = await start(config)
    while not any(made.looks for made in server.batches):
        await asyncio.sleep(0.02)
    child.terminate()
    _, errors = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 130, errors
    with pytest.raises(ConfigError, match="were paid for"):
        await rlaif.agenerate(config, overrides=PLAIN)
    server.looks_needed = 1
    run = await rlaif.agenerate(config)
    assert run.status().rows == PROMPTS
    assert len(server.batches) == 2
    assert set(server.paid.values()) == {1}


async def test_a_budget_counts_a_batch_before_it_is_sent(tmp_path: Path, server: BatchServer):
    config = project(tmp_path, server, budget={"max_calls": 50})
    with pytest.raises(rlaif.RlaifError, match="calls 50 of 50"):
        await rlaif.agenerate(config)
    assert sum(len(made.ids) for made in server.batches) == 25  # two samples each
    run = await rlaif.agenerate(config, overrides={"budget.max_calls": 1000})
    assert run.status().rows == PROMPTS
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"executor": "ray"}, "transport: batch works in one process"),
        ({"overrides": {"out": "s3://bucket/run"}}, "another one would pay for it again"),
    ],
)
async def test_batches_are_refused_where_their_state_would_be_lost(
    tmp_path: Path, server: BatchServer, changes: dict[str, Any], words: str
):
    if "executor" in changes:
        pytest.importorskip("ray")
    config = project(tmp_path, server)
    with pytest.raises(ConfigError, match=words):
        await rlaif.agenerate(config, **changes)
    assert not (tmp_path / "run").exists()


async def test_an_evaluation_and_an_audit_through_batches_keep_no_batch(
    tmp_path: Path, server: BatchServer
):
    write_project(tmp_path, prompts=5)
    model = {
        "engine": "openai",
        "model": "test-model",
        "base_url": server.base_url,
        "options": {"transport": "batch", "batch": QUICK},
    }
    evaluation = {
        "name": "test",
        "prompts": {"path": str(tmp_path / "prompts.jsonl")},
        "constitution": "concise",
        "models": [
            {"name": "base", **model},
            {"name": "echo", "engine": "scripted", "model": "echo"},
        ],
        "baseline": "base",
        "out": str(tmp_path / "evaluation"),
    }
    await asyncio.to_thread(rlaif.evaluate, evaluation)
    gold = write_gold(tmp_path / "gold.jsonl", 6)
    audit = {"judges": [{"name": "main", **model}], "out": str(tmp_path / "audit")}
    await asyncio.to_thread(audit_judge, audit, [gold])
    assert len(server.batches) >= 2
    for out in ("evaluation", "audit"):
        assert not list((tmp_path / out / "batches").iterdir())
