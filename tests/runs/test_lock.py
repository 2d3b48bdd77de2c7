import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlaif.errors import InputError, RunError, RunLocked
from rlaif.runs.lock import RunLock, is_locked

HOLD = """
import sys, time
from pathlib import Path
from rlaif.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_writer_is_refused_with_the_id_of_the_first(tmp_path):
    lock = RunLock(tmp_path)
    with pytest.raises(RunLocked, match=f"process {os.getpid()} on .*, since 20"):
        RunLock(tmp_path)
    lock.release()
    lock.release()
    RunLock(tmp_path).release()


def test_a_killed_process_leaves_no_lock(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunLocked, match=f"process {holder.pid} "):
            RunLock(tmp_path)
        assert is_locked(tmp_path)
        holder.kill()
        holder.wait()
    assert not is_locked(tmp_path)
    RunLock(tmp_path).release()


def test_checking_the_lock_does_not_keep_a_writer_out(tmp_path):
    RunLock(tmp_path).release()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert not is_locked(tmp_path)
        lock = RunLock(tmp_path)
        assert is_locked(tmp_path)
        lock.release()


def test_a_folder_without_a_writer_is_not_locked(tmp_path):
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "absent")


def test_a_lock_that_cannot_be_created_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        RunLock(tmp_path / "file")


def test_a_lock_whose_holder_is_unknown_still_holds(tmp_path):
    lock = RunLock(tmp_path)
    (tmp_path / "lock").write_bytes(b"")
    with pytest.raises(RunLocked, match="unknown process"):
        RunLock(tmp_path)
    lock.release()


@pytest.mark.parametrize("content", [b"my notes", b'{"pid": 1}', b"[]", b"a" * 9000, b"\0\0x"])
def test_a_file_that_is_not_a_lock_keeps_its_content(tmp_path: Path, content: bytes):
    (tmp_path / "lock").write_bytes(content)
    for _ in range(2):
        with pytest.raises(InputError, match="not a lock file of a run"):
            RunLock(tmp_path)
    assert (tmp_path / "lock").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"\0" * 80])
def test_a_lock_file_that_a_power_failure_emptied_is_written_again(tmp_path: Path, content: bytes):
    (tmp_path / "lock").write_bytes(content)
    RunLock(tmp_path).release()
    assert f'"pid":{os.getpid()}'.encode() in (tmp_path / "lock").read_bytes()


@pytest.mark.parametrize("target", ["precious.txt", "missing.txt", "."])
def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path, target: str):
    (tmp_path / "precious.txt").write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match="not a lock file of a run"):
        RunLock(tmp_path / "run")
    assert not is_locked(tmp_path / "run")
    assert (tmp_path / "precious.txt").read_text() == "kept"
    assert not (tmp_path / "missing.txt").exists()


def test_folders_pipes_and_sockets_in_the_place_of_the_lock_are_refused(tmp_path: Path):
    for name in ("folder", "pipe", "socket"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder" / "lock").mkdir()
    os.mkfifo(tmp_path / "pipe" / "lock")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket" / "lock"))
        for name in ("folder", "pipe", "socket"):
            with pytest.raises(InputError, match="not a lock file of a run"):
                RunLock(tmp_path / name)
            assert not is_locked(tmp_path / name)  # and does not wait for a writer to the pipe
