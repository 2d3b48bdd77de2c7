"""Run a command and end its whole process group once the process that started it is gone.

A separate program: ``python guard.py COMMAND…``. Its standard input is a pipe that the starter
holds open and never writes to. When it is closed, on purpose or because the starter was killed, the
command gets SIGTERM, and after `GRACE_S` seconds SIGKILL. Whatever is left of its process group
when it has ended gets SIGKILL. So no model server outlives its owner, not even kill -9.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_S = 20.0


def main() -> int:
    """Run the command to its end, kill what is left of it, and return its exit status."""
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: command.terminate())
    threading.Thread(target=_end_with_starter, args=(command,), daemon=True).start()
    status = command.wait()
    _kill_group(command.pid)
    return status if status >= 0 else 128 - status


def _end_with_starter(command: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1):  # not through sys.stdin: its lock would be held at our own end
        pass
    command.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(timeout=GRACE_S)
    _kill_group(command.pid)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
