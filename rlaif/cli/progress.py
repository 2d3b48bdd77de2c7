"""What a person sees while a run goes on: one live line on a terminal, JSON lines on request."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from rlaif.pipeline.budget import show_use
from rlaif.pipeline.job import OnProgress, Progress


@contextmanager
def shown_progress(*, json: bool) -> Iterator[OnProgress]:
    """Yield a callback that shows progress: JSON lines on stdout, else a live line on stderr.

    Nothing is shown when stderr is not a terminal and ``json`` is off.
    """
    if json:
        yield _print_json
        return
    if not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
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
        TextColumn("{task.fields[detail]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("prompts", total=None, detail="")

        def show(progress: Progress) -> None:
            bar.update(
                task,
                total=progress.total,
                completed=progress.rows + progress.failures,
                detail=_detail(progress),
            )

        yield show


def _detail(progress: Progress) -> str:
    parts = [f"{progress.rate:.1f}/s", f"calls {progress.asked}"]
    if progress.remembered:
        parts.append(f"remembered {progress.remembered}")
    parts += map(show_use, progress.budget)
    if progress.price is not None and not any(use.what == "price" for use in progress.budget):
        parts.append(f"spent {progress.price:.4f}")
    parts += progress.pending
    if progress.failures:
        parts.append(f"failures {progress.failures}")
    return " · ".join(parts)


def _print_json(progress: Progress) -> None:
    sys.stdout.buffer.write(orjson.dumps({"event": "progress", **progress.to_json()}) + b"\n")
    sys.stdout.flush()


def _ignore(progress: Progress) -> None:
    """Not a terminal: quiet."""
