"""`rlaif evaluate`: models side by side on held-out prompts."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from rlaif.config import load_config, parse_overrides

if TYPE_CHECKING:
    from rlaif.evaluation import OnProgress


def evaluate(
    config: Annotated[Path, typer.Argument(help="The evaluation file.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key, such as prompts.limit=20."
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Measure again, replacing what out holds; recorded replies stay."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Compare models with a baseline on held-out prompts. Repeat the command to go on."""
    from rich.console import Console

    from rlaif.config.evaluate import EvaluateConfig
    from rlaif.evaluation import evaluate as run_evaluation, render_table

    overrides = parse_overrides(set_ or [])
    out = load_config(EvaluateConfig, config, overrides).out
    try:
        with _shown_progress(json=json) as on_progress:
            card = run_evaluation(config, overrides=overrides, again=again, on_progress=on_progress)
    except KeyboardInterrupt:
        print("stopped; every reply is kept: repeat the command to go on", file=sys.stderr)
        raise typer.Exit(130) from None
    if json:
        sys.stdout.buffer.write(orjson.dumps({"event": "done", **card.to_json()}) + b"\n")
        return
    Console().print(render_table(card))
    for notice in card.notices:
        print(f"note: {notice}", file=sys.stderr)
    print(f"by tag, and how to read it: {out / 'report.md'}", file=sys.stderr)


@contextmanager
def _shown_progress(*, json: bool) -> Iterator["OnProgress"]:
    """Yield a callback: JSON lines on stdout, else a live line on stderr if that is a terminal."""
    if json:
        yield _print_json
        return
    if not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield show


def _print_json(stage: str, done: int, total: int) -> None:
    """Print at most about a hundred lines per stage."""
    if done % max(1, total // 100) and done != total:
        return
    line = {"event": "progress", "stage": stage, "done": done, "total": total}
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.flush()


def _ignore(stage: str, done: int, total: int) -> None:
    """Not a terminal: quiet."""
