"""`rlaif loop`: rounds of generate, train, evaluate; promote or stay."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlaif.cli.options import NoPreflight
from rlaif.cli.output import print
from rlaif.cli.progress import print_event, shown_counts, shown_progress
from rlaif.config import parse_overrides


def loop(
    config: Annotated[Path, typer.Argument(help="The loop file.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")
    ] = None,
    no_preflight: NoPreflight = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Run rounds of self-improvement. Repeat the command to resume."""
    from rlaif.loop import Round, Shown, Stage, run_loop
    from rlaif.training.harness.progress import progress_style

    def show(done: Round) -> None:
        if json:
            print_event("round", **done.to_json())
        else:
            print(done.summary(), flush=True)

    def head(number: int, stage: Stage) -> None:
        if json:
            print_event("stage", round=number, stage=stage)
        else:
            print(f"round {number}: {stage}", file=sys.stderr, flush=True)

    shown = Shown(
        on_stage=head,
        generating=partial(shown_progress, json=json),
        training=progress_style(json=json),
        evaluating=partial(shown_counts, json=json),
    )
    outcome = run_loop(
        config,
        overrides=parse_overrides(set_ or []),
        preflight=not no_preflight,
        on_round=show,
        shown=shown,
    )
    if json:
        print_event("done", **outcome.to_json())
    else:
        print(outcome.summary())
    if outcome.nothing:
        print(f"error: {outcome.nothing}", file=sys.stderr)
        raise typer.Exit(1)
