"""Rows whose prompt is no longer in the input are named, and left out of counts and exports."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import rlaif
from rlaif.errors import StoppedEarly
from rlaif.inputs import belongs
from rlaif.runs import Run, open_run
from tests.e2e.project import rlaif as command, write_project

FIRST: list[dict[str, Any]] = [
    {"id": "a", "prompt": "One?", "tags": ["x"]},
    {"id": "b", "prompt": "Two?"},
]


def run_with(folder: Path, prompts: Sequence[dict[str, Any]], **overrides: Any) -> Run:
    lines = "".join(json.dumps(one) + "\n" for one in prompts)
    (folder / "prompts.jsonl").write_text(lines)
    return rlaif.generate(folder / "run.yaml", overrides=overrides)


def project(folder: Path) -> None:
    path = write_project(folder)
    config = json.loads(path.read_text())
    config["prompts"] |= {"id_column": "id", "tags_column": "tags"}
    path.write_text(json.dumps(config))


def ids(run: Run) -> list[str]:
    return sorted(row.prompt.id for row in run.rows())


def test_an_edited_tag_gives_one_row_and_one_pair(tmp_path: Path):
    project(tmp_path)
    run_with(tmp_path, FIRST)
    run = run_with(tmp_path, [{**FIRST[0], "tags": ["y"]}, FIRST[1]])
    status = run.status()
    assert (status.rows, status.expected, status.orphans, status.state) == (2, 2, 1, "finished")
    assert ids(run) == ["a", "b"]
    assert [row.prompt.tags for row in run.rows() if row.prompt.id == "a"] == [("y",)]


def test_changed_and_deleted_prompts_are_left_out_of_exports_unless_kept(tmp_path: Path):
    project(tmp_path)
    run_with(tmp_path, FIRST)
    run = run_with(tmp_path, [{"id": "a", "prompt": "Another one?"}])
    assert (ids(run), run.status().orphans) == (["a"], 2)
    words = ("export", "run", "--what", "prompts", "--out")
    left_out = command(*words, "some", cwd=tmp_path)
    assert "2 rows of prompts that are no longer in the input are left out" in left_out.stderr
    assert len(pq.read_table(tmp_path / "some" / "data")) == 1
    kept = command(*words, "all", "--keep-orphans", cwd=tmp_path)
    assert kept.returncode == 0, kept.stderr
    assert len(pq.read_table(tmp_path / "all" / "data")) == 3
    assert "orphans     2 more rows" in command("status", "run", cwd=tmp_path).stdout


def test_a_prompt_that_comes_back_counts_again_without_a_call(tmp_path: Path):
    project(tmp_path)
    run_with(tmp_path, FIRST)
    assert ids(run_with(tmp_path, FIRST[:1])) == ["a"]
    calls = sum(total.calls for total in open_run(tmp_path / "run").status().calls)
    run = run_with(tmp_path, FIRST)
    assert (ids(run), run.status().orphans) == (["a", "b"], 0)
    assert sum(total.calls for total in run.status().calls) == calls


def test_a_lower_limit_makes_no_orphans(tmp_path: Path):
    project(tmp_path)
    run_with(tmp_path, FIRST)
    run = run_with(tmp_path, FIRST, **{"prompts.limit": 1})
    assert (ids(run), run.status().orphans) == (["a", "b"], 0)


def test_more_prompts_make_no_orphans(tmp_path: Path):
    project(tmp_path)
    run_with(tmp_path, FIRST[:1])
    run = run_with(tmp_path, FIRST)
    assert (ids(run), run.status().orphans) == (["a", "b"], 0)


def test_a_low_limit_after_an_unfinished_pass_hides_no_row(tmp_path: Path):
    project(tmp_path)
    prompts = [{"id": f"p{number}", "prompt": f"Question {number}?"} for number in range(30)]
    with pytest.raises(StoppedEarly):
        run_with(tmp_path, prompts, **{"budget.max_calls": 60, "concurrency": 1})
    made = ids(open_run(tmp_path / "run"))
    assert len(made) > 2
    run = run_with(tmp_path, prompts, **{"prompts.limit": 2})
    assert (ids(run), run.status().orphans) == (made, 0)


def test_a_low_limit_hides_no_row_where_the_log_is_gone(tmp_path: Path):
    project(tmp_path)
    run_with(tmp_path, FIRST).path.joinpath("log.jsonl").unlink()
    run = run_with(tmp_path, FIRST, **{"prompts.limit": 1})
    assert (ids(run), run.status().orphans) == (["a", "b"], 0)


@pytest.mark.parametrize("prompts", [{"partition": "1/1"}, {"limit": 1}, {"limit": 2}])
def test_a_changed_prompt_counts_once_under_a_partition_or_limit(
    tmp_path: Path, prompts: dict[str, Any]
):
    project(tmp_path)
    run_with(tmp_path, FIRST)
    changed = [{**FIRST[0], "prompt": "Another one?"}, FIRST[1]]
    run = run_with(tmp_path, changed, **{f"prompts.{key}": one for key, one in prompts.items()})
    assert (ids(run), run.status().orphans) == (["a", "b"], 1)
    assert [row.prompt.messages[0]["content"] for row in run.rows() if row.prompt.id == "a"] == [
        "Another one?"
    ]


def test_a_part_makes_orphans_of_its_own_prompts_only(tmp_path: Path):
    project(tmp_path)
    prompts = [{"id": f"p{number}", "prompt": f"Question {number}?"} for number in range(20)]
    run_with(tmp_path, prompts)
    first = sorted(one["id"] for one in prompts if belongs(one["id"], "1/2"))
    assert 0 < len(first) < 20
    run = run_with(tmp_path, prompts[:1], **{"prompts.partition": "1/2"})
    gone = [one for one in first if one != "p0"]
    assert ids(run) == sorted({one["id"] for one in prompts} - set(gone))
    assert run.status().orphans == len(gone)


@pytest.mark.parametrize("prompts", [{"partition": "1/1"}, {"limit": 2}])
def test_a_prompt_that_comes_back_counts_again_under_a_partition_or_limit(
    tmp_path: Path, prompts: dict[str, Any]
):
    project(tmp_path)
    third = {"id": "c", "prompt": "Three?"}
    run_with(tmp_path, [*FIRST, third])
    assert ids(run_with(tmp_path, FIRST[:1])) == ["a"]
    run = run_with(tmp_path, FIRST, **{f"prompts.{key}": one for key, one in prompts.items()})
    assert (ids(run), run.status().orphans) == (["a", "b"], 1)
