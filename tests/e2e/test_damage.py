"""Full and read-only disks, damaged files, second writers: what the command line says and saves.

Where a message names a command that mends, the test runs that very command.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif.errors import RunError
from rlaif.runs import open_run
from rlaif.runs.lock import is_locked
from tests.e2e.project import COMMAND, rlaif, row_bytes, write_project
from tests.runs.small_disk import in_namespace, skip_without_mounts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of 30 rows and one failure in it."""
    folder = tmp_path_factory.mktemp("finished")
    write_project(folder, prompts=30, shard_rows=8)
    with (folder / "prompts.jsonl").open("a") as file:
        file.write("{broken\n")
    done = rlaif("generate", "run.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """The same, to be damaged, in a folder with a blank in its name."""
    return shutil.copytree(finished, tmp_path / "a project")


def said(done: subprocess.CompletedProcess[str], code: int, words: str) -> str:
    """Check exit code and message; return the command that its hint names."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert done.stderr.count("error:") == 1
    hint = done.stderr.partition("hint: ")[2]
    return hint.partition(" and repeat the command")[0]


def status(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(rlaif("status", "run", "--json", cwd=folder).stdout)
    return found


def test_a_cut_off_shard_is_named_and_its_rows_come_back_as_the_hint_says(project: Path):
    before = row_bytes(project / "run")
    shard = sorted((project / "run" / "shards").iterdir())[0]
    os.truncate(shard, shard.stat().st_size // 2)
    mend = said(rlaif("generate", "run.yaml", cwd=project), 1, f"{shard.name}: damaged shard")
    said(rlaif("export", "run", "--out", "pairs", cwd=project), 1, "damaged shard")
    assert not (project / "pairs").exists()
    found = status(project)
    assert found["rows"] == len(before) - 8
    assert list(found["damaged"]) == [f"run/shards/{shard.name}"]  # type: ignore[call-overload]
    subprocess.run(mend, shell=True, check=True, cwd=project)
    calls = len(ledger_keys(project / "run"))
    assert rlaif("generate", "run.yaml", cwd=project).returncode == 0
    assert row_bytes(project / "run") == before
    assert len(ledger_keys(project / "run")) == calls, "the ledger had every reply"


def ledger_keys(run: Path) -> list[bytes]:
    with sqlite3.connect(run / "ledger.sqlite") as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM calls")]
    connection.close()
    return keys


def test_damage_inside_a_shard_is_found_by_verify_and_never_read(project: Path):
    shard = sorted((project / "run" / "shards").iterdir())[0]
    data = bytearray(shard.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 400] = bytes(byte ^ 0xFF for byte in data[middle : middle + 400])
    shard.write_bytes(data)
    done = rlaif("status", "run", "--verify", cwd=project)
    assert f"{shard.name}: damaged shard" in done.stdout
    assert "mv " in done.stdout
    with pytest.raises(RunError, match="damaged shard"):
        list(open_run(project / "run").rows())


def overwrite_a_page(ledger: Path) -> None:
    data = bytearray(ledger.read_bytes())
    data[8192:11000] = b"\xaa" * (11000 - 8192)
    ledger.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a page": overwrite_a_page,
    "cut off": lambda ledger: os.truncate(ledger, ledger.stat().st_size // 2),
    "another file": lambda ledger: ledger.write_text("no ledger"),
}


def test_a_ledger_of_a_newer_version_is_refused_and_the_rows_can_be_read(project: Path):
    connection = sqlite3.connect(project / "run" / "ledger.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    said(rlaif("generate", "run.yaml", cwd=project), 2, "newer version")
    assert status(project)["rows"] == 30


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_ledger_is_named_and_the_run_goes_on_as_the_hint_says(project: Path, damage: str):
    before = row_bytes(project / "run")
    ledger = project / "run" / "ledger.sqlite"
    DAMAGE[damage](ledger)
    # One more prompt, so that the ledger is really needed.
    with (project / "prompts.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "One more question?"}) + "\n")
    done = rlaif("generate", "run.yaml", cwd=project)
    mend = said(done, 1, "ledger.sqlite: damaged ledger: [^\n]*\n  hint: ")
    assert status(project)["rows"] == 30
    subprocess.run(mend, shell=True, check=True, cwd=project)
    assert (project / "run" / "ledger.damaged" / "ledger.sqlite").exists()
    assert rlaif("generate", "run.yaml", cwd=project).returncode == 0
    after = row_bytes(project / "run")
    assert before.items() <= after.items()
    assert len(after) == 31


def test_a_line_that_is_no_failure_is_named_and_deleted_as_the_hint_says(project: Path):
    failures = project / "run" / "failures.jsonl"
    kept = failures.read_bytes()
    failures.write_bytes(b'{"half a li\n' + kept + b'{"torn by a cra')
    mend = said(rlaif("generate", "run.yaml", cwd=project), 1, "failures.jsonl:1: not a failure")
    subprocess.run(mend, shell=True, check=True, cwd=project)
    assert rlaif("generate", "run.yaml", cwd=project).returncode == 0
    assert failures.read_bytes() == kept
    found = status(project)
    assert (found["rows"], found["failed"], found["state"]) == (30, 1, "finished")


@pytest.mark.slow
def test_a_manifest_of_a_newer_version_or_a_damaged_one_stops_every_verb(project: Path):
    manifest = project / "run" / "manifest.json"
    whole = json.loads(manifest.read_text())
    before = row_bytes(project / "run")
    manifest.write_text(json.dumps(whole | {"number": 99}))
    for verb in (["generate", "run.yaml"], ["status", "run"], ["export", "run", "--out", "pairs"]):
        hint = said(rlaif(*verb, cwd=project), 2, "newer version")
        assert "pip install --upgrade" in hint
    manifest.write_text(json.dumps(whole)[:300])
    hint = said(rlaif("generate", "run.yaml", cwd=project), 1, "damaged manifest")
    assert "reuse" in hint
    # As the hint says: another folder, with reuse naming this one, costs nothing.
    again = ["--set", "out=again", "--set", 'reuse=["run"]']
    assert rlaif("generate", "run.yaml", *again, cwd=project).returncode == 0
    assert row_bytes(project / "again") == before
    found = json.loads(rlaif("status", "again", "--json", cwd=project).stdout)
    assert [call["calls"] for call in found["calls"]] == [0, 0]


@pytest.mark.slow
def test_a_second_process_is_refused_and_the_first_is_not_disturbed(tmp_path: Path):
    student = {"engine": "scripted", "model": "echo", "options": {"latency_ms": 200}}
    config = write_project(tmp_path, prompts=40, student=student, concurrency=2)
    first = subprocess.Popen([*COMMAND, "generate", str(config)], stderr=subprocess.PIPE, text=True)
    while not is_locked(tmp_path / "run"):
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)  # however long the second one takes to start
    try:
        refused = rlaif("generate", config, cwd=tmp_path)
    finally:
        first.send_signal(signal.SIGCONT)
    hint = said(refused, 2, rf"another process .*process {first.pid} on")
    assert hint.startswith("wait for it")
    assert status(tmp_path)["state"] in ("running", "finished")
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
    assert status(tmp_path)["rows"] == 40


FULL = """
import json, subprocess, sys
from pathlib import Path
from tests.e2e.project import rlaif
disk, folder = Path(sys.argv[1]), Path(sys.argv[2])
out = ["--set", f"out={disk}/run"]
first = rlaif("generate", "run.yaml", *out, cwd=folder)
found = json.loads(rlaif("status", disk / "run", "--json", cwd=folder).stdout)
exported = rlaif("export", disk / "run", "--out", disk / "pairs", cwd=folder)
half = sorted(one.name for one in disk.rglob("*") if ".tmp" in one.name)
subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
second = rlaif("generate", "run.yaml", *out, cwd=folder)
after = json.loads(rlaif("status", disk / "run", "--json", cwd=folder).stdout)
asked = sum(call["calls"] for call in after["calls"])
print(json.dumps([first.returncode, first.stderr, found["rows"], found["damaged"], half,
                  exported.returncode, exported.stderr,
                  second.returncode, second.stderr, after["rows"], after["failed"], asked]))
"""

READ_ONLY = """
import json, subprocess, sys
from pathlib import Path
from tests.e2e.project import rlaif
disk, folder = Path(sys.argv[1]), Path(sys.argv[2])
out = ["--set", f"out={disk}/run"]
first = rlaif("generate", "run.yaml", *out, cwd=folder)
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
done = [first, rlaif("generate", "run.yaml", *out, cwd=folder),
        rlaif("generate", "run.yaml", "--set", f"out={disk}/other", cwd=folder),
        rlaif("export", disk / "run", "--out", disk / "pairs", cwd=folder),
        rlaif("status", disk / "run", cwd=folder),
        rlaif("export", disk / "run", "--out", folder / "pairs", cwd=folder),
        rlaif("init", disk / "new", cwd=folder)]
print(json.dumps([[one.returncode, one.stderr] for one in done]))
"""


def in_small_disk(program: str, disk: Path, *arguments: Path, size: str = "2m") -> list[object]:
    command = [sys.executable, "-c", program, str(disk), *map(str, arguments)]
    done = subprocess.run(
        in_namespace(disk, command, size=size), cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_full_disk_stops_the_run_whole_and_with_room_it_goes_on(tmp_path: Path):
    disk, folder = tmp_path / "disk", tmp_path / "project"
    disk.mkdir()
    folder.mkdir()
    skip_without_mounts(disk)
    write_project(folder, prompts=400, shard_rows=20)
    code, errors, rows, damaged, half, exported, reason, again, more, after, failed, asked = (
        in_small_disk(FULL, disk, folder, size="1m")
    )
    assert code == 1, errors
    assert "the disk is full" in str(errors)
    assert "repeat the command" in str(errors)
    assert "Traceback" not in str(errors)
    assert damaged == {}
    assert half == []
    assert exported in (0, 1)
    assert "Traceback" not in str(reason)
    assert (again, after, failed) == (0, 400, 0), more
    assert isinstance(rows, int)
    assert rows < 400
    assert asked == 400 * 3 + 400 * 6, "nothing that was written was asked again"


@pytest.mark.slow
def test_a_read_only_disk_can_be_read_and_is_said_where_something_is_to_be_written(tmp_path: Path):
    disk, folder = tmp_path / "disk", tmp_path / "project"
    disk.mkdir()
    folder.mkdir()
    skip_without_mounts(disk)
    write_project(folder, prompts=5)
    found = in_small_disk(READ_ONLY, disk, folder)
    codes, errors = zip(*found, strict=True)
    assert codes == (0, 1, 1, 1, 0, 0, 1), errors
    for place in (1, 2, 3, 6):
        assert re.search("cannot be written.*read-only file system", errors[place], re.IGNORECASE)
    assert not any("Traceback" in error for error in errors)


def test_output_that_nobody_can_take_is_an_error_in_words(project: Path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "generate", "run.yaml", "--json"],
            cwd=project,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1, done.stderr
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_reader_that_has_left_ends_the_command_without_a_word(project: Path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        done = subprocess.run(
            [*COMMAND, "generate", "run.yaml", "--json"],
            cwd=project,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "")
