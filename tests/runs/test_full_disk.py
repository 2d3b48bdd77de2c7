"""Full and read-only file systems, provoked for real in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.small_disk import in_namespace, skip_without_mounts

ROOT = Path(__file__).parents[2]

FILL = """
import resource, sys
from pathlib import Path
from rlaif.errors import RunError
from rlaif.runs import RunWriter, open_run
from tests.runs.made import make_entry, make_key, make_manifest, make_row

run, limit, what = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
free, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, free))
promised, problem = 0, None
try:
    with RunWriter(run, make_manifest(), rows_per_shard=50) as writer:
        for number in range(100_000):
            if what == "calls":
                writer.ledger.put(make_entry(number, text="x" * 2000))
            else:
                # Every shard is larger than the last, and of digits that do not compress.
                text = "".join(make_key(number * 1000 + part) for part in range(number // 10))
                writer.add_row(make_row(number, text=text))
            if number % 50 == 49:
                writer.flush()
                promised = number + 1
except RunError as error:
    problem = error
resource.setrlimit(resource.RLIMIT_FSIZE, (free, free))
print(problem.message)
print(problem.hint)
status = open_run(run).status(verify=True)
with open_run(run).ledger() as ledger:
    entries = sum(1 for _ in ledger.entries())
there = entries if what == "calls" else status.rows
print(promised, there, len(status.damaged), len(list(run.rglob("*.tmp"))))
"""

READ_ONLY = """
import subprocess, sys
from pathlib import Path
from rlaif.errors import RunError
from rlaif.runs import RunWriter, open_run
from tests.runs.made import make_entry, make_key, make_manifest, make_row
disk = Path(sys.argv[1])
with RunWriter(disk / "run", make_manifest()) as writer:
    writer.add_row(make_row(1))
    writer.ledger.put(make_entry(1))
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
run = open_run(disk / "run")
with run.ledger() as ledger:
    print(run.status().rows, ledger.get(make_key(1)).reply["text"])
for name in ("run", "other"):
    try:
        RunWriter(disk / name, make_manifest())
    except RunError as problem:
        print(problem.message)
"""


def python(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", program, *map(str, arguments)]


def lines(command: list[str]) -> list[str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def small_disk(tmp_path):
    skip_without_mounts(tmp_path)
    return tmp_path


def check(said: str, hint: str, counts: str) -> None:
    assert "the disk is full" in said
    assert "repeat the command" in hint
    promised, there, damaged, unfinished = map(int, counts.split())
    assert there >= promised > 0
    assert (damaged, unfinished) == (0, 0)


@pytest.mark.parametrize(("what", "limit"), [("calls", 400_000), ("rows", 100_000)])
def test_a_size_limit_is_reported_and_durable_data_are_kept(tmp_path, what, limit):
    check(*lines(python(FILL, tmp_path / "run", limit, what)))


@pytest.mark.parametrize("what", ["calls", "rows"])
def test_a_full_disk_is_reported_and_durable_data_are_kept(small_disk, what):
    check(*lines(in_namespace(small_disk, python(FILL, small_disk / "run", 0, what))))


def test_a_read_only_folder_can_be_read_and_writing_is_a_clear_error(small_disk):
    read, *said = lines(in_namespace(small_disk, python(READ_ONLY, small_disk)))
    assert read == "1 yes"
    assert len(said) == 2
    for message in said:
        assert "cannot be written (read-only file system)" in message
