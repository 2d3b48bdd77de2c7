"""`rlaif generate`: prompts to rows; repeat the command to resume."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rlaif.cli.options import NoPreflight, overrides_of
from rlaif.cli.output import print
from rlaif.cli.progress import print_event, shown_progress
from rlaif.cli.status import (
    caught_canaries,
    need_achieved,
    print_status,
    status_json,
)
from rlaif.config import RunConfig, load_config
from rlaif.pipeline.achieved import check_run
from rlaif.pipeline.estimate import Estimate, estimate
from rlaif.pipeline.generate import Executor, generate as run_generate


def generate(  # noqa: PLR0913 - one parameter an option
    config: Annotated[Path, typer.Argument(help="The run file.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key, such as judges.0.model=x."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Read at most this many prompts.")] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Retry what failed before: prompts, and single calls of rows.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only print what would be asked: calls, tokens, price."),
    ] = False,
    executor: Annotated[
        Executor, typer.Option(help="Where the work is done: in this process, or on Ray.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster, such as auto (default: Ray is started here)."),
    ] = None,
    no_preflight: NoPreflight = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Sample, judge and pair every prompt of a run file. Repeat the command to resume."""
    overrides = overrides_of(set_, no_preflight=no_preflight)
    if limit is not None:
        overrides["prompts.limit"] = limit
    if dry_run:
        print_estimate(estimate(config, overrides=overrides), json=json)
        return
    # Before the run: the file may be edited or moved while it lasts.
    most_failed = load_config(RunConfig, config, overrides).max_failed_share
    try:
        with shown_progress(json=json) as on_progress:
            run = run_generate(
                config,
                overrides=overrides,
                retry_failed=retry_failed,
                on_progress=on_progress,
                executor=executor,
                address=address,
            )
    except KeyboardInterrupt:
        print("stopped; everything finished is kept: repeat the command to resume", file=sys.stderr)
        raise typer.Exit(130) from None
    status, caught = run.status(), caught_canaries(run)
    if json:
        print_event("done", **status_json(status, caught))
    else:
        print_status(status, caught)
    need_achieved(run, status)
    check_run(status, most_failed)
    if not json:
        what = "" if status.pairs else " --what responses"
        print(f"next: rlaif export {run.path}{what} --out {run.path}/export", file=sys.stderr)


def print_estimate(estimate: Estimate, *, json: bool) -> None:
    """Print what would be asked: calls, tokens, price."""
    if json:
        print_event("estimate", **estimate.to_json())
        return
    prompts = "an uncounted number of" if estimate.prompts is None else str(estimate.prompts)
    print(f"for {prompts} prompts, judging from {estimate.sampled} of them; no model was asked:")
    if estimate.prompts is None:
        print("  the figures are for those few alone")
    for stage in estimate.stages:
        price = "price unknown" if stage.price is None else f"{stage.price:.4f}"
        print(
            f"  {stage.purpose:10} by {stage.engine:16} {stage.calls:>9} calls "
            f"{stage.prompt_tokens:>11} + at most {stage.completion_tokens:>10} tokens  {price}"
        )
    if estimate.exceeded:
        print(f"  the budget ({', '.join(estimate.exceeded)}) may stop it before the end")
    print("tokens are estimated from the length of the text, four characters each")
