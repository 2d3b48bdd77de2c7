"""Where the process begins and ends: Ctrl-C gives no traceback at either end, and nothing hangs."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType


def main() -> None:
    """Import the command line, run it, and exit with its code."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored
    if ours:
        signal.signal(signal.SIGINT, _leave)
    from rlaif.cli.main import main as run
    from rlaif.sessions.concurrent import still_reading

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except SystemExit as end:
        if ours:  # the code stands: another Ctrl-C ends the process at once
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if still_reading():
            # A thread in Arrow's code would hang or abort the interpreter on its way out.
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise


def _leave(_number: int, _frame: FrameType | None) -> None:
    # An exception would come out of the middle of any import, and some libraries swallow it.
    os.write(2, b"interrupted: nothing was started\n")
    os._exit(130)
