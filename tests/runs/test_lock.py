import os
import subprocess
import sys
import time

import pytest

from rlaif.errors import RunError, RunLocked
from rlaif.runs.lock import RunLock, is_locked

HOLD = """
import sys, time
from pathlib import Path
from rlaif.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_writer_is_refused_and_told_who_holds_it(tmp_path):
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


def test_asking_does_not_keep_a_writer_out(tmp_path):
    RunLock(tmp_path).release()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert not is_locked(tmp_path)
        lock = RunLock(tmp_path)
        assert is_locked(tmp_path)
        lock.release()


def test_a_folder_nobody_wrote_to_is_not_locked(tmp_path):
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "absent")


def test_a_lock_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        RunLock(tmp_path / "file")


def test_a_lock_whose_holder_is_unknown_still_holds(tmp_path):
    lock = RunLock(tmp_path)
    (tmp_path / "lock").write_bytes(b"")
    with pytest.raises(RunLocked, match="has not said which"):
        RunLock(tmp_path)
    lock.release()
