"""The main job on the scripted engine, killed and resumed, reworded and asked again."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

import rlaif
from rlaif.runs.lock import is_locked
from tests.e2e.project import COMMAND, rlaif as command, row_bytes, write_project


def test_prompts_in_are_rows_out_plus_failures(tmp_path: Path):
    options = {"failure_rate": 0.3}
    student = {"engine": "scripted", "model": "echo", "options": options, "sampling": {"n": 2}}
    config = write_project(tmp_path, student=student)
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write("{broken\n\n" + json.dumps({"prompt": ""}) + "\n")
    status = rlaif.generate(config).status()
    assert status.rows + status.failed == 62 == status.expected
    assert status.failures["bad-json"] == 1
    assert status.failures["bad-prompt"] == 1
    assert status.failures["scripted"] > 5
    assert status.state == "finished"


def test_repeating_a_finished_run_asks_nothing(tmp_path: Path):
    config = write_project(tmp_path)
    rlaif.generate(config)
    before = row_bytes(tmp_path / "run")
    seen: list[int] = []
    rlaif.generate(config, on_progress=lambda progress: seen.append(progress.asked))
    assert set(seen) == {0}
    assert row_bytes(tmp_path / "run") == before


def test_failed_prompts_are_left_alone_unless_asked_for_again(tmp_path: Path):
    failing = {"engine": "scripted", "model": "echo", "options": {"failure_rate": 1.0}}
    config = write_project(tmp_path, prompts=5, student=failing)
    assert rlaif.generate(config).status().failed == 5
    asked: list[int] = []
    again = rlaif.generate(config, on_progress=lambda p: asked.append(p.failures))
    assert again.status().failed == 5
    assert set(asked) == {5}
    assert rlaif.generate(config, retry_failed=True).status().failed == 5


def test_the_number_of_workers_and_the_size_of_shards_change_no_row(tmp_path: Path):
    config = write_project(tmp_path)
    rlaif.generate(config, overrides={"out": str(tmp_path / "a"), "concurrency": 1})
    rlaif.generate(
        config, overrides={"out": str(tmp_path / "b"), "concurrency": 50, "shard_rows": 7}
    )
    assert row_bytes(tmp_path / "a") == row_bytes(tmp_path / "b")


def test_a_higher_limit_extends_a_run_and_keeps_its_rows(tmp_path: Path):
    config = write_project(tmp_path)
    rlaif.generate(config, overrides={"prompts.limit": 20})
    before = row_bytes(tmp_path / "run")
    rlaif.generate(config)
    after = row_bytes(tmp_path / "run")
    assert len(before) == 20
    assert len(after) == 60
    assert before.items() <= after.items()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_five_times_ends_in_the_rows_of_an_uninterrupted_one(
    tmp_path: Path, seed: int
):
    slow = {"engine": "scripted", "model": "echo", "options": {"latency_ms": 25}}
    changes = {"student": {**slow, "sampling": {"n": 3}}, "concurrency": 4, "shard_rows": 10}
    config = write_project(tmp_path, prompts=150, **changes)
    whole = tmp_path / "whole"
    rlaif.generate(config, overrides={"out": str(whole)})
    dice = random.Random(seed)
    kept: dict[str, bytes] = {}
    for _ in range(5):
        child = subprocess.Popen([*COMMAND, "generate", str(config)], stderr=subprocess.DEVNULL)
        while not is_locked(tmp_path / "run") and child.poll() is None:
            time.sleep(0.02)
        time.sleep(0.1 + dice.random() * 0.4)
        child.send_signal(signal.SIGKILL)
        child.wait()
        if (tmp_path / "run" / "manifest.json").exists():
            rows = row_bytes(tmp_path / "run")
            assert kept.items() <= rows.items(), "a row once written has changed or gone"
            kept = rows
    run = rlaif.generate(config)
    assert row_bytes(tmp_path / "run") == row_bytes(whole)
    status = run.status()
    assert status.rows + status.failed == 150
    # What was asked again is at most what was in flight or uncommitted at the five kills.
    sampled = sum(total.calls for total in status.calls if total.purpose == "sample")
    assert sampled == 450


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path):
    student = {"engine": "scripted", "model": "echo", "options": {"latency_ms": 100}}
    config = write_project(tmp_path, prompts=400, student=student, concurrency=4)
    child = subprocess.Popen([*COMMAND, "generate", str(config)], stderr=subprocess.PIPE, text=True)
    shards = tmp_path / "run" / "shards"
    while not list(shards.glob("*.parquet")):
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=20)
    assert child.returncode == 130
    assert "repeat the command to resume" in errors
    assert "Traceback" not in errors
    found = rlaif.open_run(tmp_path / "run").status()
    assert found.state == "interrupted"
    assert 0 < found.rows < 400


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_whose_prompts_are_still_being_looked_at(
    tmp_path: Path, number: signal.Signals
):
    config = write_project(tmp_path)
    (tmp_path / "prompts.jsonl").unlink()
    os.mkfifo(tmp_path / "prompts.jsonl")
    child = subprocess.Popen([*COMMAND, "generate", str(config)], stderr=subprocess.PIPE, text=True)
    # Opening to write succeeds as soon as somebody reads.
    with (tmp_path / "prompts.jsonl").open("w"):
        time.sleep(0.5)
        child.send_signal(number)
        _, errors = child.communicate(timeout=10)
    assert child.returncode == 130
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_rewording_one_principle_asks_only_for_judgments_that_show_it(tmp_path: Path):
    principle = {
        "critique_request": "What is wrong?",
        "revision_request": "Mend it.",
        "comparison": "Which response is better?",
    }
    ids = [f"principle-{i}" for i in range(16)]

    def constitution(changed: str) -> str:
        principles = [
            {"id": one, "statement": f"Be kind in way {one}{changed if one == ids[5] else ''}."}
            | principle
            for one in ids
        ]
        for one in principles:
            one["comparison"] = f"Which response better follows: {one['statement']}"
        return json.dumps({"name": "sixteen", "version": "1", "principles": principles})

    (tmp_path / "old.yaml").write_text(constitution(""))
    (tmp_path / "new.yaml").write_text(constitution(" indeed"))
    config = write_project(tmp_path, prompts=80, constitution="old.yaml")
    first = rlaif.generate(config)
    shown = sum(
        verdict.principle == ids[5]
        for view in first.judgments()
        for verdict in view.judgment.verdicts
    )
    assert shown > 0
    second = rlaif.generate(
        config,
        overrides={
            "constitution": str(tmp_path / "new.yaml"),
            "reuse": [str(tmp_path / "run")],
            "out": str(tmp_path / "again"),
        },
    )
    calls = {total.purpose: total for total in second.status().calls}
    assert calls["sample"].calls == 0
    assert calls["judge"].calls == shown
    done = command("status", "again", cwd=tmp_path)
    assert f"judge by judge:main: {shown} " in done.stdout


def test_principles_of_a_tag_speak_about_the_prompts_that_have_it_and_no_others(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nversion: '1'\nprinciples:\n"
        "  - {id: for-all, statement: Be kind.}\n"
        "  - {id: for-code, statement: Show the code first., applies_to: [code]}\n"
    )
    judging = {"principles": {"choose": "all"}}
    config = write_project(tmp_path, constitution=str(tmp_path / "mine.yaml"), judging=judging)
    tagged = {"prompts.tags_column": "tags"}
    lines = [{"prompt": f"Question {i}?", "tags": ["code"] if i % 2 else []} for i in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = {
        (row.prompt.tags, verdict.principle)
        for row in rlaif.generate(config, overrides=tagged).rows()
        for judgment in row.judgments
        for verdict in judgment.verdicts
    }
    assert asked == {((), "for-all"), (("code",), "for-all"), (("code",), "for-code")}


def test_another_plan_in_the_same_folder_is_refused_with_the_keys_that_differ(tmp_path: Path):
    config = write_project(tmp_path)
    rlaif.generate(config)
    done = command("generate", config, "--set", "student.sampling.temperature=0.5", cwd=tmp_path)
    assert done.returncode == 2
    assert "student.sampling.temperature" in done.stderr
    assert "Traceback" not in done.stderr


async def test_generate_works_where_an_event_loop_is_already_running(tmp_path: Path):
    config = write_project(tmp_path, prompts=3)
    assert rlaif.generate(config).status().rows == 3
    assert (await rlaif.agenerate(config)).status().rows == 3


def test_pairs_are_typed_and_carry_their_soft_label(tmp_path: Path):
    run = rlaif.generate(write_project(tmp_path, prompts=10))
    pairs = list(run.pairs())
    assert pairs
    for pair in pairs:
        assert pair.chosen.text != pair.rejected.text
        assert 0.5 <= pair.chosen_prob <= 1
        assert pair.margin == pytest.approx(2 * pair.chosen_prob - 1)


def test_a_self_judging_run_says_so(tmp_path: Path):
    student = {"engine": "scripted", "model": "judge-random"}
    named = [{"name": "main", "engine": "scripted", "model": "judge-random"}]
    for judges in (named, [{"name": "main", "model": "same-as-student"}]):
        config = write_project(tmp_path, prompts=2, student=student, judges=judges)
        out = tmp_path / f"run-{len(judges[0])}"
        run = rlaif.generate(config, overrides={"out": str(out)})
        assert any("grades its own responses" in notice for notice in run.manifest.notices)
