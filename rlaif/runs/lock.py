"""The lock: one writer per run directory. Readers need none."""

import errno
import fcntl
import os
import socket
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson

from rlaif.errors import InputError, RunLocked
from rlaif.runs.files import cannot_write
from rlaif.runs.layout import Layout

_TRIES = 6
_PAUSE_SECONDS = 0.05
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_BYTES = 4096
_WRITTEN = {"pid", "host", "started"}


class RunLock:
    """Held from creation until `release`, or until the process ends for any reason.

    The operating system holds it, so a killed writer leaves no stale lock; the content of the file
    is only for the message to other processes.

    Raises:
        RunLocked: Another process holds it; the message has its id.
        InputError: The lock file is a file of the user; it is left untouched.
        RunError: The folder cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._path = Layout(directory).lock
        self._descriptor: int | None = self._open()
        try:
            self._take(directory, self._descriptor)
        except BaseException:
            self.release()
            raise

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise self._in_the_way() from error
            raise cannot_write(self._path, error) from error

    def _take(self, directory: Path, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise self._in_the_way()
        if not _acquire(descriptor):
            raise RunLocked(
                f"{directory}: another process is writing to this run ({_holder(descriptor)})",
                hint="wait for it, stop it, or choose another `out`",
            )
        content = os.pread(descriptor, _MOST_BYTES, 0)
        if content.strip(b"\0") and _read(content) is None:
            raise self._in_the_way()
        try:
            _say_who(descriptor)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def _in_the_way(self) -> InputError:
        return InputError(
            f"{self._path}: not a lock file of a run; it was left untouched",
            hint="choose another folder as `out`, or move it away",
        )

    def release(self) -> None:
        """Let other processes write. Safe to call twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_locked(directory: Path) -> bool:
    """Whether some process is writing to the run at this moment."""
    try:
        descriptor = os.open(Layout(directory).lock, os.O_RDONLY | _SAFELY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _acquire(descriptor: int) -> bool:
    # Several tries, because `is_locked` holds the lock for an instant.
    for attempt in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS if attempt + 1 < _TRIES else 0)
        else:
            return True
    return False


def _say_who(descriptor: int) -> None:
    who = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    data = orjson.dumps(who)
    if os.pwrite(descriptor, data, 0) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(descriptor, len(data))


def _holder(descriptor: int) -> str:
    who = _read(os.pread(descriptor, _MOST_BYTES, 0))
    if who is None:
        return "unknown process"
    return f"process {who['pid']} on {who['host']}, since {who['started']}"


def _read(content: bytes) -> dict[str, object] | None:
    """Return the content of a lock file; None if this package did not write it."""
    try:
        who = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return who if isinstance(who, dict) and who.keys() == _WRITTEN else None
