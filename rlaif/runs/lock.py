"""The lock: one writer per run directory. Readers need none."""

import fcntl
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson

from rlaif.errors import RunLocked
from rlaif.runs.files import cannot_write
from rlaif.runs.layout import Layout

_TRIES = 6
_PAUSE_SECONDS = 0.05


class RunLock:
    """Held from creation until `release`, or until the process ends in whatever way.

    The operating system holds it, so that a killed writer leaves no stale lock; what the file says
    is only for the message others get.

    Raises:
        RunLocked: Another process holds it; the message names it.
        RunError: The folder cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._path = Layout(directory).lock
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise cannot_write(self._path, error) from error
        if not self._acquire():
            holder = _holder(self._path)
            self._file.close()
            raise RunLocked(
                f"{directory}: another process is writing to this run ({holder})",
                hint="wait for it, stop it, or choose another `out`",
            )
        self._say_who()

    def _acquire(self) -> bool:
        # Several tries, because `is_locked` holds the lock for an instant to find out.
        for attempt in range(_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE_SECONDS if attempt + 1 < _TRIES else 0)
            else:
                return True
        return False

    def _say_who(self) -> None:
        who = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            self._file.truncate(0)
            self._file.write(orjson.dumps(who))
            self._file.flush()
        except OSError as error:
            self.release()
            raise cannot_write(self._path, error) from error

    def release(self) -> None:
        """Let others write. Safe to call twice."""
        self._file.close()


def is_locked(directory: Path) -> bool:
    """Whether some process is writing to the run at this moment."""
    try:
        with Layout(directory).lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _holder(path: Path) -> str:
    try:
        who = orjson.loads(path.read_bytes())
        return f"process {who['pid']} on {who['host']}, since {who['started']}"
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return "it has not said which"
