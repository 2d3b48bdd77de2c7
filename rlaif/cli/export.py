"""`rlaif export`: rows to a data set that trainers load."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rlaif.cli.output import print, print_json
from rlaif.pipeline.export import export as run_export
from rlaif.runs import open_run


class Revisions(StrEnum):
    """Which revisions of a draft are exported."""

    last = "last"
    best = "best"
    all = "all"


def export(  # noqa: PLR0913 - one parameter an option
    run: Annotated[Path, typer.Argument(help="The run directory.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    what: Annotated[
        str,
        typer.Option(help="pairs, prompts, responses, judgments, demonstrations or revisions."),
    ] = "pairs",
    to: Annotated[
        str, typer.Option(help="trl, messages, openrlhf, verl, llama-factory or axolotl.")
    ] = "trl",
    min_margin: Annotated[
        float, typer.Option(help="Leave out pairs with a smaller margin 2p - 1.", min=0, max=1)
    ] = 0.0,
    repeat: Annotated[
        int,
        typer.Option(
            help="Without soft labels: N copies a pair, swapped in the share 1 - p.", min=1
        ),
    ] = 1,
    revisions: Annotated[
        Revisions,
        typer.Option(
            help="Of demonstrations and revisions: those of the last round, the best ones by the "
            "judges, or all rounds, as SL-CAI trains on them."
        ),
    ] = Revisions.last,
    keep_orphans: Annotated[
        bool,
        typer.Option(
            "--keep-orphans", help="Export rows too whose prompt is no longer in the input."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write the records of a run as Parquet with a data card."""
    opened = open_run(run, keep_orphans=keep_orphans)
    if orphans := opened.count_orphans():
        words = "kept" if keep_orphans else "left out (--keep-orphans exports them)"
        print(
            f"{orphans} rows of prompts that are no longer in the input are {words}",
            file=sys.stderr,
        )
    result = run_export(
        opened,
        out,
        what=what,
        to=to,
        min_margin=min_margin,
        repeat=repeat,
        revisions=revisions.value,
        force=force,
    )
    if json:
        print_json(result.to_json())
        return
    print(f"{result.records} {result.what} → {result.path}")
    if result.left_out:
        print(f"left out: {result.left_out} below the margin {min_margin:g}", file=sys.stderr)
    if result.unsayable:
        print(
            f"left out: {result.unsayable} that {to} cannot hold (README.md there says why)",
            file=sys.stderr,
        )
    if result.label_smoothing is not None:
        print(
            f"{to} does not support soft labels: label_smoothing = mean(1 - p) = "
            f"{result.label_smoothing:.4f}; the card says what else may be done",
            file=sys.stderr,
        )
