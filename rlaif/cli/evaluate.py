"""`rlaif evaluate`: models side by side on held-out prompts."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlaif.cli.options import NoPreflight, overrides_of
from rlaif.cli.output import make_console, print
from rlaif.cli.progress import print_event, shown_counts
from rlaif.config import load_config


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
    no_preflight: NoPreflight = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Compare models with a baseline on held-out prompts. Repeat the command to resume."""
    from rlaif.config.evaluate import EvaluateConfig
    from rlaif.evaluation import evaluate as run_evaluation, render_table

    def note(text: str) -> None:
        print(f"note: {text}", file=sys.stderr)

    overrides = overrides_of(set_, no_preflight=no_preflight)
    out = load_config(EvaluateConfig, config, overrides).out
    try:
        with shown_counts(json=json) as on_progress:
            card = run_evaluation(
                config, overrides=overrides, again=again, on_progress=on_progress, on_note=note
            )
    except KeyboardInterrupt:
        print("stopped; every reply is kept: repeat the command to resume", file=sys.stderr)
        raise typer.Exit(130) from None
    if json:
        print_event("done", **card.to_json())
    else:
        make_console().print(render_table(card))
        for notice in card.notices:
            note(notice)
        print(f"by tag, and how to read it: {out / 'report.md'}", file=sys.stderr)
    if card.nothing:
        print(f"error: {card.nothing}", file=sys.stderr)
        raise typer.Exit(1)
