"""The Ray executor for real: the same rows, workers killed, stopped and resumed, either way."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.auditing.relabel.relabel import relabel, reparse
from rlaif.errors import ConfigError, StoppedEarly
from rlaif.runs import open_run
from tests.e2e.project import COMMAND, row_bytes, write_project

ray = pytest.importorskip("ray", reason="Ray is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # starting Ray's processes takes a busy machine minutes
    # Ray leaves files, sockets and processes to the end of the interpreter.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # Ray warns of its own settings whenever it copies them.
    pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated"),
]

PORTIONS = {"workers": 2, "portion": 4, "cpus": 0.5}
ALONE = {**PORTIONS, "workers": 1}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """One Ray for all tests of this file; its address."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    context = ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


def student(*, n: int = 2, **options: Any) -> dict[str, Any]:
    return {"engine": "scripted", "model": "echo", "options": options, "sampling": {"n": n}}


def calls(run: rlaif.Run, purpose: str) -> int:
    return sum(total.calls for total in run.status().calls if total.purpose == purpose)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def workers() -> list[int]:
    """Process ids of the actors of this file's Ray that work on prompts."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                raylet = parent(int(folder.name))
                if parent(raylet) == os.getpid():
                    found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for(what: Any, seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


def replies(run: Path) -> list[Path]:
    return list((run / "replies").glob("*.parquet"))


def test_ray_gives_the_same_rows_as_one_process_and_what_follows_asks_nothing(
    tmp_path: Path, cluster: str
):
    config = write_project(tmp_path, student=student(failure_rate=0.2), ray=PORTIONS)
    here = rlaif.generate(config)
    there = rlaif.generate(config, overrides={"out": str(tmp_path / "ray")}, executor="ray")
    assert row_bytes(there.path) == row_bytes(here.path)
    assert {f.record_id: f for f in there.failures()} == {f.record_id: f for f in here.failures()}
    one, other = here.status(), there.status()
    assert (other.rows, other.failed, other.state) == (one.rows, one.failed, "finished")
    assert sorted(map(str, other.calls)) == sorted(map(str, one.calls))
    assert not (there.path / "staged").exists()

    again = reparse(there.path, out=tmp_path / "reparsed")
    assert (again.asked, again.rows) == (0, one.rows)
    judged = {key: row.judgments for row in there.rows() for key in [row.prompt.id]}
    assert {row.prompt.id: row.judgments for row in again.run.rows()} == judged
    done = relabel(there.path, constitution="hhh", out=tmp_path / "relabelled")
    assert done.rejudged.asked == 0
    assert done.flips.flipped == 0
    # Only rows are lost: either executor makes them again from the replies of the other.
    shutil.rmtree(there.path / "shards")
    rlaif.generate(config, overrides={"out": str(there.path)})
    shutil.rmtree(here.path / "shards")
    rlaif.generate(config, executor="ray")
    assert there.status().calls == other.calls
    assert here.status().calls == one.calls
    assert row_bytes(there.path) == row_bytes(here.path)


def test_either_executor_goes_on_where_the_other_stopped(tmp_path: Path, cluster: str):
    config = write_project(tmp_path, prompts=36, student=student(), ray=ALONE)
    whole = rlaif.generate(config, overrides={"out": str(tmp_path / "whole")})
    rlaif.generate(config, overrides={"prompts.limit": 12})
    rlaif.generate(config, overrides={"prompts.limit": 24}, executor="ray")
    run = rlaif.generate(config)
    assert row_bytes(run.path) == row_bytes(whole.path)
    assert calls(run, "sample") == 72
    seen: list[int] = []
    rlaif.generate(config, executor="ray", on_progress=lambda progress: seen.append(progress.asked))
    assert set(seen) == {0}
    reusing = {"out": str(tmp_path / "new"), "reuse": [str(run.path)]}
    new = rlaif.generate(config, overrides=reusing, executor="ray")
    assert row_bytes(new.path) == row_bytes(whole.path)
    assert calls(new, "sample") == 0
    assert sum(total.reused for total in new.status().calls) == 72 + calls(run, "judge")


def test_broken_records_are_failures_and_mended_ones_are_rows(tmp_path: Path, cluster: str):
    config = write_project(tmp_path, prompts=4, student=student(), ray=ALONE)
    prompts = tmp_path / "prompts.jsonl"
    whole = prompts.read_text()
    prompts.write_text("{broken\n" + whole.partition("\n")[2])
    status = rlaif.generate(config, executor="ray").status()
    assert (status.rows, status.failed, status.state) == (3, 1, "finished")
    prompts.write_text(whole)
    status = rlaif.generate(config, executor="ray").status()
    assert (status.rows, status.failed, status.state) == (4, 0, "finished")


def test_killed_workers_lose_nothing_and_repeat_at_most_what_was_in_flight(
    tmp_path: Path, cluster: str
):
    changes = {"student": student(latency_ms=60), "ray": PORTIONS, "concurrency": 8}
    config = write_project(tmp_path, prompts=160, **changes)
    whole = rlaif.generate(config, overrides={"out": str(tmp_path / "whole")})
    child = subprocess.Popen(
        [*COMMAND, "generate", str(config), "--executor", "ray", "--address", cluster],
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = 0
    for shards in (1, 4):
        wait_for(
            lambda least=shards: (
                child.poll() is not None or (len(replies(tmp_path / "run")) >= least and workers())
            )
        )
        for worker in workers()[:1]:
            os.kill(worker, signal.SIGKILL)
            killed += 1
    assert killed
    _, errors = child.communicate(timeout=600)
    assert child.returncode == 0, errors
    run = open_run(tmp_path / "run")
    assert row_bytes(run.path) == row_bytes(whole.path)
    status = run.status()
    assert (status.rows, status.failed, status.state) == (160, 0, "finished")
    # A worker has 4 prompts of 2 samples in flight.
    assert 320 <= calls(run, "sample") <= 320 + 2 * 8


def test_a_killed_driver_leaves_a_run_that_goes_on(tmp_path: Path, cluster: str):
    changes = {"student": student(latency_ms=60), "ray": ALONE, "concurrency": 8}
    config = write_project(tmp_path, prompts=100, **changes)
    words = ["generate", str(config), "--executor", "ray", "--address", cluster]
    child = subprocess.Popen([*COMMAND, *words], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(replies(tmp_path / "run")) >= 2)
    child.kill()
    child.wait()
    wait_for(lambda: not workers())
    before = sum(total.calls for total in open_run(tmp_path / "run").status().calls)
    assert before > 0
    run = rlaif.generate(config)
    status = run.status()
    assert (status.rows, status.failed) == (100, 0)
    assert len(row_bytes(run.path)) == 100
    assert calls(run, "sample") == 200, "what was in reply shards was asked again"


def test_a_signal_ends_a_run_in_order_and_it_can_be_resumed(tmp_path: Path, cluster: str):
    changes = {"student": student(latency_ms=60), "ray": ALONE, "concurrency": 4}
    config = write_project(tmp_path, prompts=400, **changes)
    words = ["generate", str(config), "--executor", "ray", "--address", cluster]
    child = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(replies(tmp_path / "run")) >= 3)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=300)
    assert child.returncode == 130, errors
    assert "repeat the command to resume" in errors
    assert "Traceback" not in errors
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["event"] == "interrupted"
    status = open_run(tmp_path / "run").status()
    assert 0 < status.rows < 400
    rlaif.generate(config, overrides={"prompts.limit": 1})
    assert calls(open_run(tmp_path / "run"), "sample") < 800


def test_an_interrupted_run_ends_in_order_though_its_worker_hangs(tmp_path: Path, cluster: str):
    config = write_project(tmp_path, prompts=400, student=student(latency_ms=60), ray=ALONE)
    words = ["generate", str(config), "--executor", "ray", "--address", cluster]
    child = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(replies(tmp_path / "run")) >= 2)
    hanging = workers()
    assert hanging
    for pid in hanging:
        os.kill(pid, signal.SIGSTOP)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=300)
    for pid in hanging:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert child.returncode == 130, errors
    assert "repeat the command to resume" in errors
    assert "Traceback" not in errors


def test_what_broke_in_a_worker_is_said(tmp_path: Path, cluster: str, monkeypatch: Any):
    config = write_project(tmp_path, prompts=8, student=student(), ray=ALONE)

    class Broken:
        def __init__(self, *_: Any) -> None: ...

        def __call__(self, _: Any) -> Any:
            raise KeyError("lost")

    monkeypatch.setattr("rlaif.pipeline.ray.executor._Actor", Broken)
    with pytest.raises(StoppedEarly, match=r"Ray gave the work up: KeyError: 'lost'"):
        rlaif.generate(config, executor="ray")


def test_a_budget_is_kept_by_all_workers_and_nothing_stays_at_work(tmp_path: Path, cluster: str):
    config = write_project(tmp_path, student=student(), ray=PORTIONS, budget={"max_calls": 50})
    with pytest.raises(StoppedEarly, match=r"calls (49|50) of 50") as stopped:
        rlaif.generate(config, executor="ray")
    spent = sum(total.calls for total in open_run(tmp_path / "run").status().calls)
    assert spent in (49, 50)  # two samples are one call: the last place may stay empty
    assert f"calls {spent} of 50" in stopped.value.message
    # Else they might let go of what is Ray's while Ray shuts down, which ends the process.
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("StreamingExecutor", "iter_threaded"))]


def test_more_workers_than_the_cluster_holds_are_refused(tmp_path: Path, cluster: str):
    config = write_project(tmp_path, ray={"workers": 4})
    with pytest.raises(ConfigError, match=r"ray\.cpus"):
        rlaif.generate(config, executor="ray")
