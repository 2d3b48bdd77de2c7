"""`rlaif export`: rows to a data set that trainers load."""

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from rlaif.pipeline.export import export as run_export


def export(
    run: Annotated[Path, typer.Argument(help="The run directory.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    what: Annotated[
        str, typer.Option(help="pairs, responses, judgments, demonstrations or revisions.")
    ] = "pairs",
    to: Annotated[str, typer.Option(help="trl or messages.")] = "trl",
    min_margin: Annotated[
        float, typer.Option(help="Leave out pairs with a smaller margin.", min=0, max=1)
    ] = 0.0,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write the records of a run as Parquet with a data card."""
    result = run_export(run, out, what=what, to=to, min_margin=min_margin, force=force)
    if json:
        sys.stdout.buffer.write(orjson.dumps(result.to_json()) + b"\n")
        return
    print(f"{result.records} {result.what} → {result.path}")
    if result.left_out:
        print(f"left out: {result.left_out} below the margin {min_margin}", file=sys.stderr)
