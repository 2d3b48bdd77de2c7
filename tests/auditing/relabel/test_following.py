"""A relabelled run follows its source, and asks again what failed."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from rlaif.auditing.relabel.relabel import arelabel, relabel, reparse
from rlaif.pipeline import agenerate, generate
from rlaif.runs import Run
from tests.auditing.runs import make_run, write_prompts
from tests.engines.faults import error, serving


def settings_of(run: Run) -> dict[str, Any]:
    return dict(run.manifest.config)


def change_prompts(tmp_path: Path, *, keep: int, add: int = 0) -> None:
    path = write_prompts(tmp_path / "run.jsonl", keep)
    more = [{"id": f"new{n}", "prompt": f"New {n}?"} for n in range(add)]
    path.write_bytes(path.read_bytes() + b"".join(orjson.dumps(one) + b"\n" for one in more))


def prompts(run: Run) -> set[str]:
    return {row.prompt.id for row in run.rows()}


def test_rows_orphaned_in_the_source_are_orphans_in_the_new_run_too(tmp_path: Path) -> None:
    run = make_run(tmp_path, prompts=6)
    words: dict[str, Any] = {"constitution": "honest", "out": tmp_path / "new"}
    assert relabel(run.path, **words).rejudged.rows == 6
    change_prompts(tmp_path, keep=4, add=1)
    source = generate(settings_of(run))
    assert source.status().orphans == 2
    done = relabel(run.path, **words).rejudged
    assert (done.orphans, done.rows, done.failed, done.changed) == (2, 5, 0, 0)
    status = done.run.status()
    assert (status.rows, status.orphans, status.state) == (5, 2, "finished")
    assert prompts(done.run) == prompts(source)
    change_prompts(tmp_path, keep=6, add=1)
    generate(settings_of(run))
    back = relabel(run.path, **words).rejudged
    assert (back.orphans, back.rows, back.asked) == (0, 7, 0)
    assert back.run.status().orphans == 0


def api(server: Any) -> dict[str, Any]:
    options = {"supports_n": False, "max_attempts": 1}
    return {
        "engine": "openai", "model": "test-model", "base_url": server.base_url, "options": options
    }  # fmt: skip


async def test_rows_made_anew_in_the_source_are_judged_again(tmp_path: Path) -> None:
    async with serving("openai") as server:
        server.fault_of = lambda body: error(400, "no") if body["seed"] % 3 == 0 else None
        settings = {
            "name": "run", "seed": 3, "constitution": "hhh", "give_up_after": 0,
            "prompts": [f"What about {n}?" for n in range(8)],
            "student": {**api(server), "sampling": {"n": 3}},
            "judges": [{"name": "main", "engine": "scripted", "model": "judge-random"}],
            "out": str(tmp_path / "run"),
        }  # fmt: skip
        run = await agenerate(settings)
        broken = {row.prompt.id for row in run.rows() if row.failures}
        assert 0 < len(broken) <= 8
        words: dict[str, Any] = {"constitution": "honest", "out": tmp_path / "new"}
        await arelabel(run.path, **words)
        server.fault_of = lambda _: None
        source = await agenerate(settings, retry_failed=True)
        assert all(len(row.responses) == 3 for row in source.rows())
        done = (await arelabel(run.path, **words)).rejudged
    assert done.changed == len(broken)
    assert {r.prompt.id: r.responses for r in done.run.rows()} == {
        r.prompt.id: r.responses for r in source.rows()
    }
    assert not any(row.failures for row in done.run.rows())
    whole = (await arelabel(run.path, constitution="honest", out=tmp_path / "whole")).rejudged
    assert {r.id: r for r in done.run.rows()} == {r.id: r for r in whole.run.rows()}
    again = (await arelabel(run.path, **words)).rejudged
    assert (again.changed, again.asked, again.rows) == (0, 0, 8)


async def test_judge_calls_that_failed_are_asked_again_and_nothing_else(tmp_path: Path) -> None:
    async with serving("openai") as server:
        judges = [{"name": "main", **api(server)}]
        settings = {
            "name": "run", "seed": 3, "constitution": "hhh", "give_up_after": 0,
            "prompts": [f"What about {n}?" for n in range(8)],
            "student": {"engine": "scripted", "model": "echo", "sampling": {"n": 2}},
            "judges": judges, "out": str(tmp_path / "run"),
        }  # fmt: skip
        run = await agenerate(settings)
        count = iter(range(10_000))
        server.fault_of = lambda _: error(400, "no") if next(count) % 2 else None
        words: dict[str, Any] = {"constitution": "honest", "out": tmp_path / "new"}
        first = (await arelabel(run.path, **words)).rejudged
        failed = sum(len(row.failures) for row in first.run.rows())
        assert failed
        server.fault_of = lambda _: None
        server.seen.clear()
        assert (await arelabel(run.path, **words)).rejudged.asked == 0
        done = (await arelabel(run.path, **words, retry_failed=True)).rejudged
        assert (done.asked, len(server.chats())) == (failed, failed)
    assert not any(row.failures for row in done.run.rows())
    assert (done.rows, done.run.status().messages) == (8, ())


@pytest.mark.parametrize("keep", [5, 6])
def test_a_reparsed_run_follows_too(tmp_path: Path, keep: int) -> None:
    run = make_run(tmp_path, prompts=6)
    reparse(run.path, out=tmp_path / "new")
    change_prompts(tmp_path, keep=keep)
    generate(settings_of(run))
    done = reparse(run.path, out=tmp_path / "new")
    assert (done.rows, done.orphans, done.asked) == (keep, 6 - keep, 0)
