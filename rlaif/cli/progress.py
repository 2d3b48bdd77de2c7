"""Progress of running work: a live line on a terminal, else a plain one now and then.

With ``json`` it is JSON lines on stdout instead. Training has its own:
`rlaif.training.harness.progress`.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rlaif.cli.output import make_console, print, print_json
from rlaif.pipeline.tally import OnProgress, Progress
from rlaif.sessions.budget import show_use

OnCount = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_PLAIN_EVERY = 30.0
"""Seconds between plain lines: a log file should stay readable after a night."""


@contextmanager
def shown_progress(*, json: bool) -> Iterator[OnProgress]:
    """Yield a callback that shows how far a run is."""
    if json:
        yield lambda progress: print_event("progress", **progress.to_json())
        return
    if not sys.stderr.isatty():
        say = _seldom()
        yield lambda progress: say(_plain(progress))
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bar,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Bar(*columns, console=make_console(stderr=True)) as bar:
        task = bar.add_task("prompts", total=None, detail="")

        def show(progress: Progress) -> None:
            done, total = _counted(progress)
            bar.update(task, total=total, completed=done, detail=_detail(progress))

        yield show


@contextmanager
def shown_counts(*, json: bool = False) -> Iterator[OnCount]:
    """Yield a callback that shows how far each of several stages is."""
    if json:
        yield _print_count
        return
    if not sys.stderr.isatty():
        say = _seldom()
        yield lambda stage, done, total: say(f"{stage}: {done} of {total}")
        return
    from rich.progress import Progress as Bar, TaskID

    with Bar(console=make_console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield show


def print_event(event: str, **values: Any) -> None:
    """Print one JSON object on a line of stdout."""
    print_json({"event": event, **values})
    sys.stdout.flush()


def _print_count(stage: str, done: int, total: int) -> None:
    """Print at most about a hundred lines per stage."""
    if done % max(1, total // 100) == 0 or done == total:
        print_event("progress", stage=stage, done=done, total=total)


def _seldom() -> Callable[[str], None]:
    """Return what prints a line to stderr, unless it has just started or printed one."""
    spoke = time.monotonic()

    def say(text: str) -> None:
        nonlocal spoke
        if time.monotonic() - spoke >= _PLAIN_EVERY:
            spoke = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return say


def _plain(progress: Progress) -> str:
    done, total = _counted(progress)
    shown = str(done) if total is None else f"{done} of {total}"
    return f"{shown} prompts · {_detail(progress)}"


def _counted(progress: Progress) -> tuple[int, int | None]:
    """Return prompts done, and how many there are; None too where the run holds more than those."""
    done, total = progress.rows + progress.failures, progress.total
    return done, None if total is None or done > total else total


def _detail(progress: Progress) -> str:
    parts = [f"{progress.rate:.1f}/s", f"calls {progress.asked}"]
    if progress.samples or progress.tokens_per_second:
        parts.append(f"samples {progress.samples}, {progress.tokens_per_second:.0f} tokens/s")
    if progress.remembered:
        parts.append(f"remembered {progress.remembered}")
    parts += map(show_use, progress.budget)
    if progress.price is not None and not any(use.what == "price" for use in progress.budget):
        parts.append(f"spent {progress.price:.4f}")
    parts += progress.pending
    if progress.failures:
        parts.append(f"failures {progress.failures}")
    return " · ".join(parts)
