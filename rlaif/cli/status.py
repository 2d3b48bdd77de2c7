"""`rlaif status`: what a run has done, dropped, failed and spent."""

import sys
from collections import Counter
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


def print_status(found: RunStatus) -> None:
    """Print what a person wants to know about a run: counts, reasons, spend, notices, damage."""
    expected = "" if found.expected is None else f" of {found.expected} prompts"
    print(f"{found.label} ({found.state}) in {found.path}")
    print(f"  rows        {found.rows}{expected}; failed {found.failed}{_reasons(found.failures)}")
    calls = _reasons(found.call_failures)
    print(f"  responses   {found.responses}" + (f"; calls that failed{calls}" if calls else ""))
    print(
        f"  judgments   {found.judgments}, undecided {found.undecided}; verdicts "
        f"{found.verdicts}{_reasons(found.choices)}"
    )
    if found.abstained:
        print(f"  abstained   {found.abstained}{_reasons(found.abstentions)}")
    print(f"  pairs       {found.pairs}")
    for (what, reason), count in sorted(found.drops.items()):
        print(f"  dropped     {count} × {what}: {reason}")
    for total in found.calls:
        price = "" if total.price is None else f", {total.price:.4f} spent"
        reused = f", {total.reused} reused from other runs" if total.reused else ""
        print(
            f"  calls       {total.purpose} by {total.engine}: {total.calls} "
            f"({total.prompt_tokens} + {total.completion_tokens} tokens{price}{reused})"
        )
    for notice in found.notices:
        print(f"  notice      {notice}")
    for path, problem in found.damaged.items():
        print(f"  damaged     {path}: {problem}")


def _reasons(counts: Counter[str]) -> str:
    if not counts:
        return ""
    return " (" + ", ".join(f"{name} {count}" for name, count in counts.most_common()) + ")"
