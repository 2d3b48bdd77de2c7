"""`rlaif relabel` and `rlaif reparse`: new labels for a finished run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif.cli.options import NoPreflight
from rlaif.cli.output import print, print_json
from rlaif.cli.progress import shown_counts
from rlaif.cli.status import need_achieved
from rlaif.pipeline.achieved import check_run
from rlaif.runs.text import one_line

if TYPE_CHECKING:
    from rlaif.auditing.relabel.rejudge import Rejudged
    from rlaif.auditing.relabel.relabel import Relabelled

_SHOWN = 160  # characters of a text in an example


def relabel(
    run: Annotated[Path, typer.Argument(help="The run directory; it is only read.")],
    constitution: Annotated[str, typer.Option(help="A file, or a shipped name such as hhh.")],
    out: Annotated[Path, typer.Option(help="The new run directory.")],
    no_preflight: NoPreflight = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what failed before: judge calls.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Judge a run's responses by another constitution; only what changed is asked again."""
    from rlaif.auditing.relabel.relabel import relabel as run_relabel
    from rlaif.pipeline.build import run_settings
    from rlaif.runs import open_run

    most_failed = run_settings(open_run(run)).max_failed_share
    try:
        with shown_counts() as on_progress:
            done = run_relabel(
                run,
                constitution=constitution,
                out=out,
                preflight=not no_preflight,
                retry_failed=retry_failed,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        print("stopped; everything finished is kept: repeat the command to resume", file=sys.stderr)
        raise typer.Exit(130) from None
    if json:
        data = {
            "rows": done.rejudged.rows,
            "failed": done.rejudged.failed,
            "changed": done.rejudged.changed,
            "orphans": done.rejudged.orphans,
            "asked": done.rejudged.asked,
            "remembered": done.rejudged.remembered,
            **done.flips.to_json(),
            "edits": [edit.to_json() for edit in done.edits],
        }
        print_json(data)
    else:
        _show(done)
    status = done.rejudged.run.status()
    need_achieved(done.rejudged.run, status)
    check_run(status, most_failed)
    if not json:
        print(f"next: rlaif export {out} --out {out}/export", file=sys.stderr)


def reparse(
    run: Annotated[Path, typer.Argument(help="The run directory; it is only read.")],
    out: Annotated[Path, typer.Option(help="The new run directory.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Parse a run's stored raw replies again with the present parsers; no model is asked."""
    from rlaif.auditing.relabel.relabel import reparse as run_reparse
    from rlaif.pipeline.build import run_settings
    from rlaif.runs import open_run

    with shown_counts() as on_progress:
        done = run_reparse(run, out=out, on_progress=on_progress)
    before, after = open_run(run).status(), done.run.status()
    if json:
        data = {
            "rows": done.rows,
            "failed": done.failed,
            "remembered": done.remembered,
            "abstained_before": before.abstained,
            "abstained": after.abstained,
        }
        print_json(data)
    else:
        print(f"{done.rows} rows, {done.remembered} replies read again, none asked")
        _say_changed(done)
        _say_failed(done)
        print(f"verdicts that abstain: {before.abstained} before, {after.abstained} now")
    need_achieved(done.run, after)
    check_run(after, run_settings(done.run).max_failed_share)


def _say_changed(done: "Rejudged") -> None:
    if done.changed:
        print(f"{done.changed} rows were made anew in the source since, and are judged again")
    if done.orphans:
        print(f"{done.orphans} rows are orphans in the source by now, and are in no count")


def _say_failed(done: "Rejudged") -> None:
    if done.failed:
        print(
            f"{done.failed} more could not be judged, because a template cannot be filled in with "
            f"them: see {done.run.path / 'failures.jsonl'}, fix it, and repeat the command",
            file=sys.stderr,
        )


def _show(done: "Relabelled") -> None:
    flips = done.flips
    print(f"{done.rejudged.rows} rows; asked {done.rejudged.asked} replies, ", end="")
    print(f"{done.rejudged.remembered} came from the ledger")
    _say_changed(done.rejudged)
    _say_failed(done.rejudged)
    print(f"principles unchanged: {done.unchanged_principles} of {done.principles}")
    for edit in done.edits:
        reached = ", ".join(edit.reaches) or "no judge prompt"
        print(f"edited: {edit.principle} {edit.field}, which reaches {reached}")
    print(
        f"{flips.compared} labels compared: {flips.same} same, {flips.flipped} flipped, "
        f"{flips.gained} new, {flips.lost} lost"
    )
    for principle, count in flips.causes.most_common():
        print(f"\n{count} flipped by {principle}")
        for one in flips.examples.get(principle, []):
            print(f"  prompt   {one_line(one.prompt, _SHOWN)}")
            print(f"  now over {one_line(one.chosen, _SHOWN)}")
            print(f"  not      {one_line(one.rejected, _SHOWN)}")
            print(f"           p {one.before:.2f} → {one.after:.2f}")
