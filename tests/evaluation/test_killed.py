"""An evaluation that is killed again and again ends as one that nobody disturbed."""

import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

from rlaif.runs import Ledger
from tests.e2e.project import COMMAND

KILLS = 5


def write_evaluation(folder: Path) -> Path:
    folder.mkdir()
    lines = [json.dumps({"prompt": f"Question {i}: what is {i}?"}) for i in range(30)]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    slow = {"options": {"latency_ms": 20, "failure_rate": 0.1}}
    config = {
        "name": "killed",
        "prompts": {"path": "prompts.jsonl"},
        "constitution": "hhh",
        "models": [
            {"name": name, "engine": "scripted", "model": model, **slow}
            for name, model in (("base", "echo"), ("policy", "judge-random"))
        ],
        "baseline": "base",
        "judges": [{"name": "main", "engine": "scripted", "model": "judge-random", **slow}],
        "sampling": {"n": 3, "max_tokens": 16},
        "concurrency": 4,
        "out": "out",
    }
    path = folder / "evaluate.yaml"
    path.write_text(json.dumps(config))
    return path


def replies(folder: Path) -> dict[str, Any]:
    """Every recorded reply by its key."""
    if not (folder / "out" / "ledger.sqlite").exists():
        return {}
    with Ledger.open(folder / "out" / "ledger.sqlite", read_only=True) as ledger:
        return {entry.key: entry.reply for entry in ledger.entries()}


def card(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "scorecard.json").read_text())
    return found


def test_kills_at_any_moment_change_no_reply_and_no_figure(tmp_path: Path):
    undisturbed = write_evaluation(tmp_path / "undisturbed")
    killed = write_evaluation(tmp_path / "killed")
    command = [*COMMAND, "evaluate"]
    subprocess.run([*command, undisturbed], check=True, capture_output=True)
    dice, kept, kills = random.Random(4), replies(killed.parent), 0
    while kills < KILLS:
        process = subprocess.Popen(
            [*command, killed], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = len(kept)
        while kills % 3 and process.poll() is None and len(replies(killed.parent)) == before:
            time.sleep(0.02)  # every third may die before it has asked anything
        time.sleep(dice.uniform(0.0, 0.3))
        process.kill()
        if process.wait() == 0:
            break
        kills += 1
        found = replies(killed.parent)
        assert kept.items() <= found.items(), "a recorded reply has changed or gone"
        kept = found
    assert kills >= 2
    subprocess.run([*command, killed], check=True, capture_output=True)
    assert replies(killed.parent) == replies(undisturbed.parent)
    assert card(killed.parent) == card(undisturbed.parent)
