"""What a run warns of, and counts that are true for what is asked now."""

import json
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.config import RunConfig, load_config
from rlaif.pipeline.checks import comparison_warnings
from tests.e2e.project import rlaif as command, write_project


def warnings_for(sampling: dict[str, Any], **more: Any) -> tuple[str, ...]:
    judge = {"name": "main", "engine": "scripted", "model": "judge-random"}
    settings = {
        "name": "r", "prompts": ["One?"], "constitution": "hhh", "out": "run", "judges": [judge],
        "student": {"engine": "scripted", "model": "echo", "sampling": sampling}, **more,
    }  # fmt: skip
    return comparison_warnings(load_config(RunConfig, settings))


@pytest.mark.parametrize(
    ("sampling", "more", "words"),
    [
        ({"n": 1}, {}, "sampling.n is 1"),
        ({"n": 4, "temperature": 0.0}, {}, "sampling.temperature is 0"),
        ({"n": 1}, {"revise": {"rounds": 1}}, None),
        ({"n": 2}, {}, None),
    ],
)
def test_settings_that_cannot_give_a_pair_are_warned_of(
    sampling: dict[str, Any], more: dict[str, Any], words: str | None
) -> None:
    warnings = warnings_for(sampling, **more)
    assert len(warnings) == (words is not None)
    assert all(str(words) in one and "no judge will be asked" in one for one in warnings)


def test_the_warning_is_shown_before_the_run_and_by_status(tmp_path: Path) -> None:
    student = {"engine": "scripted", "model": "echo", "sampling": {"n": 1}}
    config = write_project(tmp_path, prompts=2, student=student)
    done = command("generate", config, cwd=tmp_path)
    assert done.stderr.startswith("student.sampling.n is 1: there is nothing to compare")
    status = command("status", "run", cwd=tmp_path)
    assert "  warning     student.sampling.n is 1" in status.stdout


def test_samples_that_differ_are_not(tmp_path: Path) -> None:
    run = rlaif.generate(write_project(tmp_path, prompts=5))
    assert run.status().warnings == ()


def test_a_lower_limit_counts_what_it_asks_for_and_says_what_else_there_is(tmp_path: Path) -> None:
    config = write_project(tmp_path, prompts=12)
    assert command("generate", config, cwd=tmp_path).returncode == 0
    done = command("generate", config, "--limit", "5", cwd=tmp_path)
    assert "  rows        5 of 5 prompts; failed 0" in done.stdout
    assert "  more        7 rows, 0 failed, of prompts that the last start did not read" in (
        done.stdout
    )
    status = json.loads(command("status", "run", "--json", cwd=tmp_path).stdout)
    assert (status["rows"], status["expected"], status["more_rows"], status["state"]) == (
        12, 5, 7, "finished",
    )  # fmt: skip
    rlaif.generate(config, overrides={"out": str(tmp_path / "run")})
    status = rlaif.open_run(tmp_path / "run").status()
    assert (status.rows, status.expected, status.more_rows) == (12, 12, 0)
