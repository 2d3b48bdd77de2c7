"""`rlaif generate`: prompts to rows; repeat the command to go on."""

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from rlaif.cli.progress import shown_progress
from rlaif.cli.status import print_status
from rlaif.config import parse_overrides
from rlaif.pipeline.generate import generate as run_generate


def generate(
    config: Annotated[Path, typer.Argument(help="The run file.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key, such as judges.0.model=x."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Read at most this many prompts.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try prompts again that failed before.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Sample, judge and pair every prompt of a run file. Repeat the command to go on."""
    overrides = parse_overrides(set_ or [])
    if limit is not None:
        overrides["prompts.limit"] = limit
    try:
        with shown_progress(json=json) as on_progress:
            run = run_generate(
                config, overrides=overrides, retry_failed=retry_failed, on_progress=on_progress
            )
    except KeyboardInterrupt:
        print("stopped; everything finished is kept: repeat the command to go on", file=sys.stderr)
        raise typer.Exit(130) from None
    status = run.status()
    if json:
        sys.stdout.buffer.write(orjson.dumps({"event": "done", **status.to_json()}) + b"\n")
        return
    print_status(status)
    print(f"next: rlaif export {run.path} --out {run.path}/export", file=sys.stderr)
