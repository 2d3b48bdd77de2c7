"""`rlaif status`: what a run has done, dropped, failed and spent."""

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from rlaif.runs import RunStatus, open_run


def status(
    run: Annotated[Path, typer.Argument(help="The run directory.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what a run has done so far; safe while it is running."""
    found = open_run(run).status()
    if json:
        sys.stdout.buffer.write(orjson.dumps(found.to_json()) + b"\n")
        return
    print_status(found)
