"""Templates that cannot be filled in with every prompt."""

import json
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.errors import TemplateError
from rlaif.pipeline.estimate import estimate
from tests.e2e.project import rlaif as command, write_project

SECOND_TURN = """\
{# variables: conversation, response_a, response_b #}
--- user
{{ conversation[1].content }}
{{ response_a }} {{ response_b }}
"""


def project(folder: Path, turns: list[int], **changes: Any) -> Path:
    """Conversations of so many turns, and a template that needs two."""
    config = write_project(folder, templates="words", **changes)
    (folder / "words" / "judge").mkdir(parents=True)
    (folder / "words" / "judge" / "pairwise.j2").write_text(SECOND_TURN)
    records = []
    for number, count in enumerate(turns):
        said = [{"role": "user", "content": f"turn {turn} of {number}"} for turn in range(count)]
        records.append(json.dumps({"prompt": said, "id": f"p{number}"}))
    (folder / "prompts.jsonl").write_text("\n".join(records))
    settings = json.loads(config.read_text())
    settings["prompts"]["id_column"] = "id"
    config.write_text(json.dumps(settings))
    return config


@pytest.mark.parametrize("odd", [0, 5, 9])
def test_a_prompt_that_a_template_cannot_show_is_a_failure_and_the_others_are_rows(
    tmp_path: Path, odd: int
):
    config = project(tmp_path, [1 if number == odd else 2 for number in range(10)], concurrency=1)
    run = rlaif.generate(config)
    status = run.status()
    assert (status.rows, status.failed, status.state) == (9, 1, "finished")
    (failure,) = run.failures()
    assert (failure.record_id, failure.stage, failure.kind) == (f"p{odd}", "render", "template")
    assert f"prompts.jsonl:{odd + 1}: " in failure.message
    assert "pairwise.j2:3: cannot be rendered" in failure.message
    assert rlaif.generate(config).status().failed == 1


@pytest.mark.parametrize("count", [3, 60])
def test_a_template_that_can_show_no_prompt_stops_the_run_and_names_one(tmp_path: Path, count: int):
    project(tmp_path, [1] * count)
    for _ in range(2):
        done = command("generate", "run.yaml", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "prompt p" in done.stderr
        assert "pairwise.j2:3: cannot be rendered" in done.stderr
        assert "Traceback" not in done.stderr
    status = rlaif.open_run(tmp_path / "run").status()
    assert (status.rows, status.failed, status.state) == (0, 0, "interrupted")
    assert "cannot be rendered" in status.stopped
    # Each prompt was paid for once, and no more than were in flight when it was enough.
    assert sum(total.calls for total in status.calls) <= 3 * min(count, 28)


def test_an_estimate_says_so_too(tmp_path: Path):
    with pytest.raises(TemplateError, match="prompt p0: "):
        estimate(project(tmp_path, [1] * 5))
    (tmp_path / "x").mkdir()
    assert estimate(project(tmp_path / "x", [1, 2, 2])).prompts == 3


def relabelled(folder: Path, turns: list[int]) -> Any:
    """A run whose template is then changed to one that needs two turns, judged anew."""
    config = project(folder, turns)
    template = folder / "words" / "judge" / "pairwise.j2"
    template.write_text(SECOND_TURN.replace("conversation[1]", "conversation[0]"))
    assert rlaif.generate(config).status().rows == len(turns)
    template.write_text(SECOND_TURN)
    return command("relabel", "run", "--constitution", "honest", "--out", "new", cwd=folder)


def test_a_row_that_a_template_cannot_show_is_counted_when_labels_are_made_anew(tmp_path: Path):
    done = relabelled(tmp_path, [2, 1, 2])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 rows; ")
    assert "1 more could not be judged" in done.stderr
    status = rlaif.open_run(tmp_path / "new").status()
    assert (status.rows, status.failed, status.state) == (2, 1, "finished")
    (failure,) = rlaif.open_run(tmp_path / "new").failures()
    assert (failure.record_id, failure.stage) == ("p1", "render")


def test_labels_are_not_made_anew_with_a_template_that_can_show_no_row(tmp_path: Path):
    done = relabelled(tmp_path, [1, 1, 1])
    assert done.returncode == 2, done.stderr
    assert "error: prompt p" in done.stderr
    assert "nor with any other of 3 prompts" in done.stderr
    assert "Traceback" not in done.stderr
