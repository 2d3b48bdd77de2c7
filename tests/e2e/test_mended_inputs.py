"""Inputs that are mended between two starts: rows plus failures are the prompts of the last one."""

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.auditing.relabel.relabel import reparse
from rlaif.errors import EngineUnavailable, StoppedEarly
from rlaif.inputs import PromptSource, read_prompts
from rlaif.pipeline import remaining
from rlaif.records import Failure, Prompt
from rlaif.runs import RunStatus
from rlaif.sessions import concurrent
from tests.e2e.project import write_project

BROKEN = "{broken"


def line(text: str) -> str:
    return json.dumps({"prompt": text})


def project(folder: Path, *lines: str, **prompts: Any) -> Path:
    config = write_project(folder, prompts=0)
    settings = json.loads(config.read_text())
    settings["prompts"] |= prompts
    config.write_text(json.dumps(settings))
    write(folder, *lines)
    return config


def write(folder: Path, *lines: str) -> None:
    (folder / "prompts.jsonl").write_text("".join(f"{one}\n" for one in lines))


def counts(status: RunStatus) -> tuple[int, int, int | None, str]:
    return status.rows, status.failed, status.expected, status.state


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_record_that_was_mended_is_a_row_and_no_failure(tmp_path: Path, retry_failed: bool):
    config = project(tmp_path, line("one"), BROKEN, line("three"))
    assert counts(rlaif.generate(config).status()) == (2, 1, 3, "finished")
    write(tmp_path, line("one"), line("two"), line("three"))
    shown: list[tuple[int, int]] = []
    run = rlaif.generate(
        config,
        retry_failed=retry_failed,
        on_progress=lambda progress: shown.append((progress.rows, progress.failures)),
    )
    assert counts(run.status()) == (3, 0, 3, "finished")
    assert list(run.failures()) == []
    assert shown[-1] == (3, 0)
    assert counts(rlaif.generate(config).status()) == (3, 0, 3, "finished")


def test_a_broken_record_that_moved_or_is_gone_counts_once_or_not_at_all(tmp_path: Path):
    config = project(tmp_path, line("one"), BROKEN, BROKEN, line("four"))
    assert counts(rlaif.generate(config).status()) == (2, 2, 4, "finished")
    write(tmp_path, BROKEN, line("one"), line("four"))
    run = rlaif.generate(config)
    assert counts(run.status()) == (2, 1, 3, "finished")
    assert [one.record_id for one in run.failures()] == ["prompts.jsonl:1"]
    assert counts(rlaif.generate(config).status()) == (2, 1, 3, "finished")


def test_a_prompt_that_no_longer_repeats_another_is_worked_on(tmp_path: Path):
    named = [json.dumps({"prompt": "same", "id": one}) for one in "ab"]
    config = project(tmp_path, *named, id_column="id", dedup={"method": "exact"})
    run = rlaif.generate(config)
    assert counts(run.status()) == (1, 1, 2, "finished")
    assert [one.record_id for one in run.failures()] == ["b"]
    write(tmp_path, json.dumps({"prompt": "other", "id": "a2"}), named[1])
    run = rlaif.generate(config)
    assert list(run.failures()) == []
    assert {row.prompt.id for row in run.rows()} == {"a2", "b"}


def test_a_mended_prompt_that_then_fails_is_a_failure_of_its_work(tmp_path: Path):
    named = [json.dumps({"prompt": "same", "id": one}) for one in "ab"]
    config = project(tmp_path, *named, id_column="id", dedup={"method": "exact"})
    failing = {"student.options": {"failure_rate": 1.0}}
    rlaif.generate(config, overrides=failing)
    write(tmp_path, named[1])
    run = rlaif.generate(config, overrides=failing)
    stages = sorted((one.record_id, one.stage) for one in run.failures())
    assert stages == [("b", "sample")]


def test_a_start_that_reads_less_takes_nothing_back(tmp_path: Path):
    lines = [line("one"), line("two"), BROKEN]
    config = project(tmp_path, *lines)
    rlaif.generate(config)
    assert rlaif.generate(config, overrides={"prompts.limit": 2}).status().failed == 1
    write(tmp_path, *lines[:2], line("three"))
    run = rlaif.generate(config, overrides={"prompts.limit": 3})
    assert counts(run.status()) == (3, 0, 3, "finished")


def test_a_low_limit_takes_nothing_back_where_the_log_is_gone(tmp_path: Path):
    config = project(tmp_path, line("one"), line("two"), BROKEN)
    rlaif.generate(config).path.joinpath("log.jsonl").unlink()
    assert rlaif.generate(config, overrides={"prompts.limit": 2}).status().failed == 1


def test_a_prompt_that_failed_and_is_then_left_out_stays_a_failure(tmp_path: Path):
    named = [json.dumps({"prompt": text, "id": one}) for text, one in (("x", "a"), ("y", "b"))]
    config = project(tmp_path, *named, id_column="id", dedup={"method": "exact"})
    failing = {"student.options": {"failure_rate": 1.0}}
    rlaif.generate(config, overrides=failing)
    write(tmp_path, named[0], json.dumps({"prompt": "x", "id": "b"}))
    shown: list[int] = []
    for _ in range(2):
        run = rlaif.generate(
            config,
            overrides=failing,
            on_progress=lambda progress: shown.append(progress.failures),
        )
        stages = sorted((one.record_id, one.stage) for one in run.failures())
        assert stages == [("a", "sample"), ("b", "remove")]
        assert shown[-1] == 2


def test_a_part_takes_back_failures_of_its_own_only(tmp_path: Path):
    config = project(tmp_path, line("one"), *[BROKEN] * 20)
    rlaif.generate(config)
    write(tmp_path, *[line(f"prompt {n}") for n in range(21)])
    for part, among in ((1, range(1, 20)), (2, range(1))):
        run = rlaif.generate(config, overrides={"prompts.partition": f"{part}/2"})
        assert run.status().failed in among


def test_a_start_that_is_stopped_half_way_takes_nothing_back(tmp_path: Path):
    config = project(tmp_path, line("one"), BROKEN, line("three"))
    rlaif.generate(config)
    write(tmp_path, *(line(f"prompt {n}") for n in range(50)))
    with pytest.raises(StoppedEarly):
        rlaif.generate(config, overrides={"budget.max_calls": 30, "concurrency": 1})
    assert rlaif.open_run(tmp_path / "run").status().failed == 1


def test_an_input_that_breaks_off_lets_work_in_flight_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def breaking(source: PromptSource) -> Iterator[Prompt | Failure]:
        yield from islice(read_prompts(source), 5)
        time.sleep(1.2)
        raise EngineUnavailable("the input is gone")

    slow = {"student.options": {"latency_ms": 1500}}
    config = project(tmp_path, *[line(f"prompt {n}") for n in range(9)])
    monkeypatch.setattr(concurrent, "_READ_AHEAD", 1)
    monkeypatch.setattr(remaining, "read_prompts", breaking)
    with pytest.raises(EngineUnavailable, match="is gone"):
        rlaif.generate(config, overrides=slow)
    monkeypatch.undo()
    assert rlaif.open_run(tmp_path / "run").status().rows == 5
    assert counts(rlaif.generate(config).status()) == (9, 0, 9, "finished")


def test_a_run_judged_anew_follows_the_run_it_came_from(tmp_path: Path):
    config = project(tmp_path, line("one"), BROKEN)
    rlaif.generate(config)
    assert reparse(tmp_path / "run", out=tmp_path / "again").run.status().failed == 1
    write(tmp_path, line("one"), line("two"))
    rlaif.generate(config)
    again = reparse(tmp_path / "run", out=tmp_path / "again").run.status()
    assert (again.rows, again.failed) == (2, 0)
