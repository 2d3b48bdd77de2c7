"""`rlaif status`: what a run has done, dropped, failed and spent."""

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rlaif.cli.output import print, print_json, say
from rlaif.judging import Caught, count_canaries
from rlaif.pipeline.achieved import why_nothing
from rlaif.runs import Run, RunStatus, open_run


def status(
    run: Annotated[Path, typer.Argument(help="The run directory.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every shard whole, to find any damage.")
    ] = False,
) -> None:
    """Say what a run has done so far; safe while it is running."""
    opened = open_run(run)
    status = opened.status(verify=verify)
    caught = None if status.damaged else caught_canaries(opened)
    if json:
        print_json(status_json(status, caught))
        return
    print_status(status, caught)


def caught_canaries(run: Run) -> Caught | None:
    """What the judges said about known pairs; None when the run mixes none in."""
    if not (run.manifest.config.get("judging") or {}).get("canary"):
        return None
    return count_canaries(judgment for row in run.rows() for judgment in row.canaries)


def status_json(status: RunStatus, caught: Caught | None) -> dict[str, Any]:
    """The status as JSON-compatible data, with the canaries where there are any."""
    canaries = None if caught is None else {**asdict(caught), "accuracy": caught.accuracy}
    return {**status.to_json(), "canaries": canaries}


def need_achieved(run: Run, status: RunStatus) -> None:
    """End the command with 1, and say why, where a finished run holds nothing of use."""
    if nothing := why_nothing(run, status):
        print(f"error: {nothing}", file=sys.stderr)
        raise typer.Exit(1)


def print_status(status: RunStatus, caught: Caught | None = None) -> None:
    """Print a run's counts, reasons, spend, notices and damage."""
    say(f"{status.label} ({status.state}) in {status.path}")
    _print_rows(status)
    calls = _reasons(status.call_failures)
    say(f"  responses   {status.responses}" + (f"; calls that failed{calls}" if calls else ""))
    say(
        f"  judgments   {status.judgments}, undecided {status.undecided}; verdicts "
        f"{status.verdicts}{_reasons(status.choices)}"
    )
    if status.abstained:
        say(f"  abstained   {status.abstained}{_reasons(status.abstentions)}")
    _print_masses(status)
    say(f"  pairs       {status.pairs}")
    if caught is not None:
        say(
            f"  canaries    of the known pairs {caught.right} judged right, {caught.wrong} wrong, "
            f"{caught.even} even, {caught.undecided} undecided"
        )
    for (what, reason), count in sorted(status.drops.items()):
        say(f"  dropped     {count} × {what}: {reason}")
    for one in status.messages:
        say(f"  failed      {one.role}: {one.count} × {one.kind}: {one.message}")
    _print_calls(status)
    if status.stopped:
        print(f"  stopped     {status.stopped}")
    for warning in status.warnings:
        say(f"  warning     {warning}")
    for notice in (*status.notices, *status.low_masses):
        say(f"  notice      {notice}")
    for path, problem in status.damaged.items():
        print(f"  damaged     {problem if problem.startswith(path) else f'{path}: {problem}'}")


def _print_rows(status: RunStatus) -> None:
    expected = "" if status.expected is None else f" of {status.expected} prompts"
    rows, failed = status.rows - status.more_rows, status.failed - status.more_failed
    say(f"  rows        {rows}{expected}; failed {failed}{_reasons(status.failures)}")
    if status.more_rows or status.more_failed:
        say(
            f"  more        {status.more_rows} rows, {status.more_failed} failed, of prompts that "
            "the last start did not read (limit or partition); in all counts below and in exports"
        )
    if status.removed:
        count, reasons = status.removed.total(), _reasons(status.removed)
        say(f"  removed     {count} of the failed, on purpose{reasons}; see failures.jsonl")
    if status.orphans:
        say(
            f"  orphans     {status.orphans} more rows, of prompts no longer in the input; "
            "not in any count (export --keep-orphans keeps them)"
        )


def _print_masses(status: RunStatus) -> None:
    for judge, mass in status.label_mass.items():
        say(f"  label mass  {judge}: {mass:.3f} (median)")


def _print_calls(status: RunStatus) -> None:
    for total in status.calls:
        price = "" if total.price is None else f", {total.price:.4f} spent"
        reused = f", {total.reused} reused from other runs" if total.reused else ""
        say(
            f"  calls       {total.purpose} by {total.engine}: {total.calls} "
            f"({total.prompt_tokens} + {total.completion_tokens} tokens{price}{reused})"
        )
    if status.price is not None:
        unpriced = sum(total.unpriced for total in status.calls)
        unknown = f"; {unpriced} calls without a known price" if unpriced else ""
        say(f"  spent       {status.price:.4f} in all{unknown}")
    if status.cache_words:
        say(f"  cached      {status.cache_words}, served by a prefix cache")


def _reasons(counts: Counter[str]) -> str:
    if not counts:
        return ""
    return " (" + ", ".join(f"{name} {count}" for name, count in counts.most_common()) + ")"
