"""Parts of one input, worked on by jobs that know nothing of each other, and put together."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import rlaif
from rlaif.errors import ConfigError
from tests.e2e.project import COMMAND, row_bytes, write_project

ROOT = Path(__file__).parents[2]


def test_parts_differ_and_together_are_the_whole_at_no_further_cost(tmp_path: Path):
    student = {"engine": "scripted", "model": "echo", "options": {"failure_rate": 0.2}}
    config = write_project(tmp_path, student=student)
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write("{broken\n" + json.dumps({"prompt": ""}) + "\n")
    whole = rlaif.generate(config)
    parts = [
        rlaif.generate(
            config, overrides={"out": str(tmp_path / f"{k}"), "prompts.partition": f"{k}/3"}
        )
        for k in (1, 2, 3)
    ]
    rows = [row_bytes(part.path) for part in parts]
    assert all(rows)
    assert sum(map(len, rows)) == len(rows[0] | rows[1] | rows[2])
    assert rows[0] | rows[1] | rows[2] == row_bytes(whole.path)
    failures = {one.record_id for part in parts for one in part.failures()}
    assert failures == {one.record_id for one in whole.failures()}
    assert sum(part.status().failed for part in parts) == len(failures)
    assert {part.status().state for part in parts} == {"finished"}

    reuse = [str(part.path) for part in parts]
    seen: list[int] = []
    together = rlaif.generate(
        config,
        overrides={"out": str(tmp_path / "together"), "reuse": reuse},
        on_progress=lambda progress: seen.append(progress.asked),
    )
    assert seen[-1] == 0
    assert row_bytes(together.path) == row_bytes(whole.path)
    assert sum(t.reused for t in together.status().calls) == sum(
        t.calls for part in parts for t in part.status().calls
    )


@pytest.mark.parametrize("partition", ["4/3", "0/3", "3", "1/0"])
def test_a_part_that_does_not_exist_is_refused(tmp_path: Path, partition: str):
    config = write_project(tmp_path)
    with pytest.raises(ConfigError, match="partition"):
        rlaif.generate(config, overrides={"prompts.partition": partition})


def test_the_recipe_of_the_page_works_as_it_is_printed(tmp_path: Path):
    page = (ROOT / "docs" / "slurm.md").read_text()
    array, join = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, flags=re.DOTALL)
    write_project(tmp_path, prompts=20)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "rlaif").write_text(f'#!/bin/bash\nexec {shlex.join(COMMAND)} "$@"\n')
    (bin_ / "rlaif").chmod(0o755)

    def job(script: str, **environment: str) -> None:
        subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=tmp_path,
            env={"PATH": f"{bin_}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
            check=True,
            capture_output=True,
        )

    for task in (1, 2, 3):
        job(array, SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="3")
    job(join)
    assert len(row_bytes(tmp_path / "runs" / "demo" / "whole")) == 20
    status = rlaif.open_run(tmp_path / "runs" / "demo" / "whole").status()
    assert sum(total.calls for total in status.calls) == 0
