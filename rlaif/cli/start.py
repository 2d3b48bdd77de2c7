"""Where the command begins: Ctrl-C ends it without a traceback while everything is imported."""

import os
import signal
from types import FrameType


def main() -> None:
    """Import the command line and run it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else a shell wants it ignored
        signal.signal(signal.SIGINT, _leave)
    from rlaif.cli.main import main as run

    signal.signal(signal.SIGINT, before)
    run()


def _leave(_number: int, _frame: FrameType | None) -> None:
    # An exception would come out of the middle of any import, and some libraries swallow it.
    os.write(2, b"interrupted: nothing was started\n")
    os._exit(130)
