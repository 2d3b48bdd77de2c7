"""Duplicates and contaminated prompts, from the run file to the card, also through kills."""

import json
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

import rlaif
from rlaif.cli.main import main
from rlaif.runs.log import read_log
from tests.e2e.project import COMMAND, rlaif as command, row_bytes, write_project

ITEM = "Which of the nine planets that were known in 1950 is the furthest from the sun"


def write_filtered(folder: Path, *, method: str, repeats: int = 1, **changes: object) -> Path:
    """A project whose prompts hold, in every ten, a duplicate, a near one and a test item."""
    config = write_project(folder, prompts=0, **changes)
    lines = []
    for n in range(repeats):
        lines += [f"Number {n * 10 + k}: tell me something about {k} times {n}." for k in range(7)]
        lines.append(lines[-7])
        lines.append(f"{n}. Please tell me now: {ITEM.lower()}?")
        lines.append(lines[-9].upper())
    (folder / "prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": line}) + "\n" for line in lines) + "{broken\n"
    )
    (folder / "tests.csv").write_text(f'question,answer\n"{ITEM}?",Pluto\n')
    settings = json.loads(config.read_text())
    settings["prompts"] |= {
        "dedup": {"method": method},
        "decontaminate": {"against": ["tests.csv"]},
    }
    config.write_text(json.dumps(settings))
    return config


@pytest.mark.slow
def test_what_is_left_out_is_in_status_log_failures_and_card_with_its_reason(tmp_path: Path):
    pytest.importorskip("datasketch")
    config = write_filtered(tmp_path, method="near")
    settings = json.loads(config.read_text())
    settings["prompts"]["dedup"]["threshold"] = 0.95  # the seven differ in two figures
    config.write_text(json.dumps(settings))
    done = command("generate", "run.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rows        7 of 11 prompts; failed 4" in done.stdout
    assert "removed     3 of the failed, on purpose" in done.stdout
    said = json.loads(command("status", "run", "--json", cwd=tmp_path).stdout)
    assert said["rows"] + said["failed"] == said["expected"] == 11
    assert said["removed"] == {"duplicate": 1, "near-duplicate": 1, "contaminated": 1}
    logged = [one for one in read_log(tmp_path / "run" / "log.jsonl") if one["event"] == "left out"]
    assert [(one["reason"], one["why"]) for one in logged] == [
        ("duplicate", "prompts.jsonl:8 repeats prompts.jsonl:1"),
        ("contaminated", f"prompts.jsonl:9 holds 100% of the test item {tmp_path}/tests.csv:2"),
        ("near-duplicate", "prompts.jsonl:10 is like prompts.jsonl:1: 1.00"),
    ]
    found = list(rlaif.open_run(tmp_path / "run").failures())
    assert {one.record_id for one in found} >= {one["prompt"] for one in logged}
    done = command("export", "run", "--out", "pairs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "pairs" / "README.md").read_text()
    assert "left out on purpose: 1 (near-duplicate)" in card
    assert "50% of the 8-grams of an item of `tests.csv`" in card


def test_other_filters_in_the_same_folder_are_refused(tmp_path: Path):
    config = write_filtered(tmp_path, method="exact")
    rlaif.generate(config)
    done = command("generate", "run.yaml", "--set", "prompts.decontaminate.ngram=13", cwd=tmp_path)
    assert done.returncode == 2
    assert "prompts.decontaminate.ngram: 8 → 13" in done.stderr


def test_a_run_killed_and_resumed_leaves_out_the_same_prompts(tmp_path: Path):
    pytest.importorskip("datasketch")
    student = {"engine": "scripted", "model": "echo", "options": {"latency_ms": 15}}
    config = write_filtered(
        tmp_path, method="near", repeats=12, student=student, concurrency=4, shard_rows=5
    )
    whole = rlaif.generate(config, overrides={"out": str(tmp_path / "whole")})
    dice = random.Random(5)
    for _ in range(2):
        child = subprocess.Popen([*COMMAND, "generate", str(config)], stderr=subprocess.DEVNULL)
        while not (tmp_path / "run" / "failures.jsonl").exists() and child.poll() is None:
            time.sleep(0.02)
        time.sleep(dice.random() * 0.5)
        child.send_signal(signal.SIGKILL)
        child.wait()
    run = rlaif.generate(config)
    assert row_bytes(tmp_path / "run") == row_bytes(tmp_path / "whole")
    expected = Counter((one.record_id, one.kind, one.message) for one in whole.failures())
    assert Counter((one.record_id, one.kind, one.message) for one in run.failures()) == expected
    status = run.status()
    assert status.rows + status.failed == status.expected == 121
    assert status.removed["contaminated"] == 12


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dedup": {"threshold": 0.9}}, "threshold has no effect without method: near"),
        ({"dedup": {"method": "fuzzy"}}, "'fuzzy' is not allowed"),
        ({"decontaminate": {"against": ["none.jsonl"]}}, "none.jsonl: no such file"),
        ({"decontaminate": {"against": []}}, "prompts.decontaminate.against"),
        ({"decontaminat": {}}, "did you mean 'decontaminate'"),
        ({"revision": "main"}, "revision has no effect without hub"),
        ({"path": "https://me:secret@host/p.jsonl"}, "password or signature"),
        ({"path": "https://host/p.jsonl?X-Amz-Signature=1"}, "password or signature"),
        ({"path": "nosuch://bucket/p.jsonl"}, "nosuch://bucket/p.jsonl: cannot be read"),
        ({"path": "*.parquet"}, "no files of prompts"),
    ],
)
def test_a_mistake_about_inputs_is_told_in_words_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    words: str,
):
    config = write_project(tmp_path, prompts=3)
    settings = json.loads(config.read_text())
    settings["prompts"] |= changes
    config.write_text(json.dumps(settings))
    monkeypatch.setattr("sys.argv", ["rlaif", "generate", str(config)])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == 2, shown.err
    assert words in shown.err
    assert shown.out == ""
    assert not (tmp_path / "run").exists()
