"""`rlaif loop`: rounds of generate, train, evaluate; promote or stay."""

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from rlaif.config import parse_overrides


def loop(
    config: Annotated[Path, typer.Argument(help="The loop file.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Run rounds of self-improvement. Repeat the command to go on."""
    from rlaif.loop import Round, run_loop

    def show(done: Round) -> None:
        if json:
            sys.stdout.buffer.write(orjson.dumps({"event": "round", **done.to_json()}) + b"\n")
            sys.stdout.flush()
        else:
            print(done.summary())

    outcome = run_loop(config, overrides=parse_overrides(set_ or []), on_round=show)
    if json:
        sys.stdout.buffer.write(orjson.dumps({"event": "done", **outcome.to_json()}) + b"\n")
    else:
        print(outcome.summary())
