"""`rlaif audit`: what judges are worth on gold."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif.cli.options import NoPreflight, overrides_of
from rlaif.cli.output import make_console, print
from rlaif.cli.progress import print_event, shown_counts

if TYPE_CHECKING:
    from rlaif.auditing import Audit, Estimate


def audit(
    config: Annotated[
        Path, typer.Argument(help="The audit file: judges, and what they are asked.")
    ],
    gold: Annotated[
        list[Path], typer.Option(help="A gold file (repeat for more); see docs/audit.md.")
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most this many pairs of each, drawn by content.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as orders=one."),
    ] = None,
    no_preflight: NoPreflight = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Measure judges on gold pairs. Repeat the command to resume; what was asked costs nothing."""
    from rlaif.auditing import audit as run_audit

    try:
        with shown_counts(json=json) as on_progress:
            result = run_audit(
                config,
                gold,
                limit=limit,
                out=out,
                overrides=overrides_of(set_, no_preflight=no_preflight),
                on_estimate=_print_estimates_json if json else _print_estimates,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        print("stopped; every reply is kept: repeat the command to resume", file=sys.stderr)
        raise typer.Exit(130) from None
    if json:
        print_event("done", **result.to_json())
    else:
        _print_result(result)
    if result.nothing:
        print(f"error: nothing was measured: {result.nothing}", file=sys.stderr)
        raise typer.Exit(1)


def _print_result(audit: "Audit") -> None:
    _print_table(audit)
    for notice in audit.notices:
        print(f"note: {notice}", file=sys.stderr)
    print("all figures, and what they cannot tell: table.md in the folder", file=sys.stderr)


def _print_table(audit: "Audit") -> None:
    from rich.table import Table

    from rlaif.auditing.render import show

    table = Table(box=None, pad_edge=False)
    columns = ("gold set", "judge", "accuracy", "against chance", "same in both orders", "bias")
    for column in columns:
        table.add_column(column)
    for name in audit.gold:
        longer = audit.longer[name]
        table.add_row(name, "(pick the longer)", show(longer.figure), longer.against_chance)
        for judge, figures in audit.judges.items():
            measured = figures.sets[name]
            table.add_row(
                name,
                judge,
                show(measured.accuracy.figure),
                measured.accuracy.against_chance,
                show(measured.position.consistency),
                show(measured.position.bias),
            )
    # A file or a pipe has no width to fit in.
    width = None if sys.stdout.isatty() else 160
    make_console(markup=False, highlight=False, width=width).print(table)


def _print_estimates(estimates: "Sequence[Estimate]") -> None:
    for estimate in estimates:
        price = "" if estimate.price is None else f", price {estimate.price:.4f}"
        time = "answered from the ledger so far"
        if estimate.minutes is not None:
            time = f"about {estimate.minutes:.1f} minutes"
        print(
            f"{estimate.judge}: {estimate.pairs} pairs, about {estimate.calls:.0f} calls, "
            f"{estimate.prompt_tokens:.0f} + {estimate.completion_tokens:.0f} tokens"
            f"{price}; {time}",
            file=sys.stderr,
        )
    known = [estimate.minutes for estimate in estimates if estimate.minutes is not None]
    if len(known) > 1:
        print(f"all judges: about {sum(known):.1f} minutes", file=sys.stderr)


def _print_estimates_json(estimates: "Sequence[Estimate]") -> None:
    for estimate in estimates:
        print_event("estimate", **estimate.to_json())
