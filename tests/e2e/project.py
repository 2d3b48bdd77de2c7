"""Small projects for end-to-end tests, and the command line run for real in a child process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rlaif.records import canonical_json
from rlaif.runs import open_run, row_to_dict

COMMAND = [sys.executable, "-c", "from rlaif.cli.start import main; main()"]


def write_project(folder: Path, *, prompts: int = 60, **changes: Any) -> Path:
    """Write run.yaml (as JSON, which is YAML) and prompts.jsonl; return the run file."""
    lines = [json.dumps({"prompt": f"Question {i}: what is {i}?"}) for i in range(prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    config = {
        "name": "demo",
        "seed": 3,
        "prompts": {"path": "prompts.jsonl"},
        "constitution": "hhh",
        "student": {"engine": "scripted", "model": "echo", "sampling": {"n": 3}},
        "judges": [{"name": "main", "engine": "scripted", "model": "judge-random"}],
        "shard_rows": 20,
        "concurrency": 8,
        "out": "run",
        **changes,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(config))
    return path


def rlaif(*words: str | Path, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command line; never raises for its exit code."""
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


def row_bytes(run: Path) -> dict[str, bytes]:
    """Every row of a run by id, as canonical bytes; fails on a row that is on the disk twice."""
    rows = {row.id: canonical_json(row_to_dict(row)) for row in open_run(run).rows()}
    shards = (run / "shards").glob("*.parquet")
    on_disk = sum(pq.read_metadata(shard).num_rows for shard in shards)
    assert on_disk == len(rows)
    return rows
