"""`rlaif status`: what a run has done, dropped, failed and spent."""

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rlaif.cli.output import print, print_json, say
from rlaif.judging import Caught, count_canaries
from rlaif.pipeline.achieved import why_nothing, why_too_many_failed
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
    found = opened.status(verify=verify)
    caught = None if found.damaged else caught_canaries(opened)
    if json:
        print_json(status_json(found, caught))
        return
    print_status(found, caught)


def caught_canaries(run: Run) -> Caught | None:
    """What the judges said about known pairs; None when the run mixes none in."""
    if not (run.manifest.config.get("judging") or {}).get("canary"):
        return None
    return count_canaries(judgment for row in run.rows() for judgment in row.canaries)


def status_json(found: RunStatus, caught: Caught | None) -> dict[str, Any]:
    """The status as JSON-compatible data, with the canaries where there are any."""
    canaries = None if caught is None else {**asdict(caught), "accuracy": caught.accuracy}
    return {**found.to_json(), "canaries": canaries}


def need_achieved(run: Run, found: RunStatus) -> None:
    """End the command with 1, and say why, where a finished run holds nothing of use."""
    if nothing := why_nothing(run, found):
        print(f"error: {nothing}", file=sys.stderr)
        raise typer.Exit(1)


def need_few_failures(found: RunStatus, most: float) -> None:
    """End the command with 5, and say why, where too large a share of a finished run failed."""
    if why := why_too_many_failed(found, most):
        print(f"error: {why}", file=sys.stderr)
        print(
            "  hint: repeat the command with --retry-failed: only what failed is asked again",
            file=sys.stderr,
        )
        raise typer.Exit(5)


def print_status(found: RunStatus, caught: Caught | None = None) -> None:
    """Print what a person wants to know about a run: counts, reasons, spend, notices, damage."""
    expected = "" if found.expected is None else f" of {found.expected} prompts"
    say(f"{found.label} ({found.state}) in {found.path}")
    say(f"  rows        {found.rows}{expected}; failed {found.failed}{_reasons(found.failures)}")
    if found.removed:
        count, reasons = found.removed.total(), _reasons(found.removed)
        say(f"  removed     {count} of the failed, on purpose{reasons}; see failures.jsonl")
    calls = _reasons(found.call_failures)
    if found.orphans:
        say(
            f"  orphans     {found.orphans} more rows, of prompts that are no longer in the input; "
            "not in any count (export --keep-orphans keeps them)"
        )
    say(f"  responses   {found.responses}" + (f"; calls that failed{calls}" if calls else ""))
    say(
        f"  judgments   {found.judgments}, undecided {found.undecided}; verdicts "
        f"{found.verdicts}{_reasons(found.choices)}"
    )
    if found.abstained:
        say(f"  abstained   {found.abstained}{_reasons(found.abstentions)}")
    say(f"  pairs       {found.pairs}")
    if caught is not None:
        say(
            f"  canaries    of the known pairs {caught.right} judged right, {caught.wrong} wrong, "
            f"{caught.even} even, {caught.undecided} undecided"
        )
    for (what, reason), count in sorted(found.drops.items()):
        say(f"  dropped     {count} × {what}: {reason}")
    for one in found.messages:
        say(f"  failed      {one.role}: {one.count} × {one.kind}: {one.message}")
    _print_calls(found)
    if found.stopped:
        print(f"  stopped     {found.stopped}")
    for notice in found.notices:
        say(f"  notice      {notice}")
    for path, problem in found.damaged.items():
        print(f"  damaged     {problem if problem.startswith(path) else f'{path}: {problem}'}")


def _print_calls(found: RunStatus) -> None:
    for total in found.calls:
        price = "" if total.price is None else f", {total.price:.4f} spent"
        reused = f", {total.reused} reused from other runs" if total.reused else ""
        say(
            f"  calls       {total.purpose} by {total.engine}: {total.calls} "
            f"({total.prompt_tokens} + {total.completion_tokens} tokens{price}{reused})"
        )
    if found.price is not None:
        unpriced = sum(total.unpriced for total in found.calls)
        unknown = f"; {unpriced} calls without a known price" if unpriced else ""
        say(f"  spent       {found.price:.4f} in all{unknown}")
    if found.cache_words:
        say(f"  cached      {found.cache_words}, served by a prefix cache")


def _reasons(counts: Counter[str]) -> str:
    if not counts:
        return ""
    return " (" + ", ".join(f"{name} {count}" for name, count in counts.most_common()) + ")"
