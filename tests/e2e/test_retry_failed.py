"""``--retry-failed`` asks exactly what failed: single calls of rows that are otherwise good."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.records import Row
from rlaif.runs import open_run
from rlaif.runs.lock import is_locked
from tests.e2e.project import COMMAND, write_project
from tests.e2e.test_nothing_achieved import command
from tests.engines.faults import FaultServer, error, serving

WORDS = "the model fell over"
PROMPTS = 12
OPTIONS = {"supports_n": False, "max_attempts": 1}


def shown(body: dict[str, Any]) -> str:
    return json.dumps(body["messages"])


def every(nth: int) -> Callable[[dict[str, Any]], bool]:
    """A property of the request that about one in ``nth`` has."""
    return lambda body: sum(shown(body).encode()) % nth == 0


def is_judge(body: dict[str, Any]) -> bool:
    return body.get("max_tokens") == 1


CASES: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = {
    "a judge's calls": ({}, is_judge),
    "one order of some comparisons": ({}, lambda body: is_judge(body) and every(3)(body)),
    "one member of a panel": ({"panel": True}, lambda body: body["model"] == "second"),
    "samples beside good ones": (
        {"student": True},
        lambda body: not is_judge(body) and body["seed"] % 3 == 0,
    ),
    "critiques": ({"critic": True}, lambda body: not is_judge(body) and every(2)(body)),
}


def project(folder: Path, server: FaultServer, traits: dict[str, Any]) -> Path:
    api: dict[str, Any] = {
        "engine": "openai", "model": "test-model", "base_url": server.base_url, "options": OPTIONS
    }  # fmt: skip
    server.models = ["test-model", "second"]
    judges = [{"name": "main", **api}]
    if traits.get("panel"):
        judges.append({**api, "name": "other", "model": "second"})
    changes: dict[str, Any] = {"judges": judges, "give_up_after": 0, "preflight": False}
    if traits.get("student"):
        changes["student"] = {**api, "sampling": {"n": 4}}
    if traits.get("critic"):
        changes["revise"] = {"rounds": 1, "critic": api}
    return write_project(folder, prompts=PROMPTS, **changes)


def failures(run: Path) -> int:
    return sum(len(row.failures) for row in open_run(run).rows())


def rows(run: Path) -> dict[str, Row]:
    return {row.id: row for row in open_run(run).rows()}


@pytest.mark.parametrize("case", CASES)
async def test_what_failed_is_asked_again_and_nothing_else(tmp_path: Path, case: str) -> None:
    traits, breaks = CASES[case]
    run = tmp_path / "run"
    async with serving("openai") as server:
        config = project(tmp_path, server, traits)
        server.fault_of = lambda body: error(400, WORDS) if breaks(body) else None
        first = await command("generate", config, cwd=tmp_path)
        broken = failures(run)
        assert broken, first.stderr
        server.seen.clear()
        server.fault_of = lambda _: None
        done = await command("generate", config, "--retry-failed", cwd=tmp_path)
        asked = len(server.chats())
        assert done.returncode == 0, done.stderr
        assert failures(run) == 0
        status = open_run(run).status()
        assert (status.rows, status.state) == (PROMPTS, "finished")
        assert sum(1 for _ in open_run(run).rows()) == PROMPTS
        server.seen.clear()
        again = await command("generate", config, "--retry-failed", cwd=tmp_path)
        assert (again.returncode, len(server.chats())) == (0, 0)
        whole = await command("generate", config, "--set", "out=whole", cwd=tmp_path)
        assert whole.returncode == 0, whole.stderr
    if case not in ("samples beside good ones", "critiques"):  # these lead to further calls
        assert asked == broken
    assert rows(run) == rows(tmp_path / "whole")


async def test_more_than_half_failing_ends_with_5_and_the_words_are_shown(tmp_path: Path) -> None:
    async with serving("openai") as server:
        config = project(tmp_path, server, {})
        calls = iter(range(10_000))
        server.fault_of = lambda _: error(400, WORDS) if next(calls) % 4 else None
        done = await command("generate", config, cwd=tmp_path)
        assert done.returncode == 5, done.stderr
        assert "of what was asked of judge:main failed, more than max_failed_share: 0.5" in (
            done.stderr
        )
        assert WORDS in done.stderr
        assert "--retry-failed" in done.stderr
        status = await command("status", "run", cwd=tmp_path)
        assert "failed      judge:main: 54 × http-400: " in status.stdout
        assert WORDS in status.stdout
        as_json = json.loads((await command("status", "run", "--json", cwd=tmp_path)).stdout)
        (message,) = as_json["messages"]
        assert (message["role"], message["kind"], message["count"]) == (
            "judge:main", "http-400", 54,
        )  # fmt: skip
        assert as_json["failed_shares"] == {"judge:main": 0.75}
        log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
        assert log[-1]["messages"] == as_json["messages"]
        server.fault_of = lambda _: None
        words = ("generate", config, "--set", "max_failed_share=0.8")
        assert (await command(*words, cwd=tmp_path)).returncode == 0
        assert (await command("generate", config, cwd=tmp_path)).returncode == 5
        retried = await command("generate", config, "--retry-failed", cwd=tmp_path)
        assert retried.returncode == 0, retried.stderr


async def test_a_retry_that_is_killed_loses_and_doubles_no_row(tmp_path: Path) -> None:
    run = tmp_path / "run"
    async with serving("openai") as server:
        config = project(tmp_path, server, {})
        server.fault_of = lambda body: error(400, WORDS) if every(3)(body) else None
        broken = await rlaif.agenerate(config, overrides={"shard_rows": 1, "out": str(run)})
        left = {row.id for row in broken.rows() if row.failures}
        server.fault_of, server.latency = (lambda _: None), (lambda: 0.05)
        words = ("generate", str(config), "--retry-failed", "--set", "concurrency=1")
        for wait in (0.2, 0.5):
            child = await asyncio.create_subprocess_exec(
                *COMMAND,
                *words,
                "--set",
                "shard_rows=1",
                cwd=tmp_path,
                stderr=asyncio.subprocess.DEVNULL,
            )
            while not is_locked(run) and child.returncode is None:
                await asyncio.sleep(0.02)
            await asyncio.sleep(wait)
            child.kill()
            await child.wait()
            ids = [row.id for row in open_run(run).rows()]
            assert len(ids) == len(set(ids)) == PROMPTS
            still = {row.id for row in open_run(run).rows() if row.failures}
            assert still <= left, "a row that was made good is broken again"
            left = still
        done = await rlaif.agenerate(config, overrides={"out": str(run)}, retry_failed=True)
        whole = await rlaif.agenerate(config, overrides={"out": str(tmp_path / "whole")})
    assert rows(run) == rows(whole.path)
    assert (done.status().rows, done.status().messages) == (PROMPTS, ())
