"""kill -9, again and again, at moments drawn by chance while a command works."""

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlaif.runs import Ledger
from tests.e2e.project import COMMAND


def replies(folder: Path) -> dict[str, Any]:
    """Every recorded reply by its key."""
    if not (folder / "ledger.sqlite").exists():
        return {}
    with Ledger.open(folder / "ledger.sqlite", read_only=True) as ledger:
        return {entry.key: entry.reply for entry in ledger.entries()}


def finish_under_kills(
    words: list[str], *, kills: int, progress: Callable[[], int], after_kill: Callable[[], None]
) -> int:
    """Kill a command up to so many times, then let it finish.

    Args:
        words: Behind ``rlaif``.
        kills: Every third may come before any progress.
        progress: Grows while the command works.
        after_kill: Looks at what is on the disk.

    Returns:
        How often it was killed; it may have finished before.
    """
    dice, done = random.Random(4), 0
    while done < kills:
        process = subprocess.Popen(
            [*COMMAND, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = progress()
        while done % 3 and process.poll() is None and progress() == before:
            time.sleep(0.02)
        time.sleep(dice.uniform(0.0, 0.3))
        process.kill()
        if process.wait() == 0:
            break
        done += 1
        after_kill()
    finished = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return done
