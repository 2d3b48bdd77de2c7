"""`rlaif constitution test | explain | import-votes`: wishes held against judges and runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from rlaif.cli.options import NoPreflight
from rlaif.cli.output import make_console, print, print_json
from rlaif.cli.progress import shown_counts

if TYPE_CHECKING:
    from rich.console import Console

    from rlaif.auditing.principles.explain import Explanation
    from rlaif.auditing.principles.principles import TrialReport

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists already.")]


def try_principles(
    source: Annotated[str, typer.Argument(help="A file, or a shipped name such as hhh.")],
    judge: Annotated[
        Path | None,
        typer.Option(help="An audit file with the judges (default: only rules are tested)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the ledger (default: out of the audit file).")
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit 4 when any principle is below this share."),
    ] = None,
    no_preflight: NoPreflight = False,
    json: AsJson = False,
) -> None:
    """Put every principle's own examples before a judge, in both orders; check rules by themselves.

    An abstention counts as wrong, a tie as half. Exit 4 when a principle is below --min-accuracy.
    """
    from rlaif.auditing.principles.principles import try_constitution

    with shown_counts() as on_progress:
        report = try_constitution(
            source, judge=judge, out=out, preflight=not no_preflight, on_progress=on_progress
        )
    if json:
        for tested in report.tested:
            _print_json(tested.to_json())
        _print_json({"constitution": report.constitution, "untested": list(report.untested)})
    else:
        _show_tests(report, min_accuracy)
    if report.nothing:
        print(f"error: {report.nothing}", file=sys.stderr)
        raise typer.Exit(1)
    if min_accuracy is not None:
        report.check(min_accuracy)


def explain(
    run: Annotated[Path, typer.Argument(help="The run directory.")],
    annotated_pairs: Annotated[
        Path | None,
        typer.Option(
            help="Also write every pair's votes by principle here (JSON, ICAI version 2)."
        ),
    ] = None,
    force: Force = False,
    json: AsJson = False,
) -> None:
    """Say which principle decided how much of a run, which never mattered, which contradict."""
    from rlaif.auditing.principles.annotated_pairs import export_annotated_pairs
    from rlaif.auditing.principles.explain import explain_run, weights_of
    from rlaif.runs import open_run
    from rlaif.runs.files import check_free, write_whole

    if annotated_pairs is not None:
        check_free(annotated_pairs, force=force)
    opened = open_run(run)
    if annotated_pairs is not None:
        data = export_annotated_pairs(
            opened.judgments(), weights_of(opened), name=opened.manifest.label
        )
        write_whole(annotated_pairs, orjson.dumps(data, option=orjson.OPT_INDENT_2))
        print(f"wrote {annotated_pairs}", file=sys.stderr)
    explanation = explain_run(opened)
    if json:
        _print_json(explanation.to_json())
    else:
        _show_explanation(explanation)


def import_votes(
    source: Annotated[Path, typer.Argument(help="Annotated pairs (JSON, ICAI version 2).")],
    gold: Annotated[
        Path | None, typer.Option(help="Write the pairs as gold lines here, for rlaif audit.")
    ] = None,
    constitution: Annotated[
        Path | None, typer.Option(help="Write principles that agree with the labels here (YAML).")
    ] = None,
    min_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of agreeing votes of a principle.")
    ] = 0.5,
    force: Force = False,
    json: AsJson = False,
) -> None:
    """Read pairs and per-principle votes that another tool wrote."""
    from rlaif.auditing.principles.annotated_pairs import (
        principles_from_votes,
        read_annotated_pairs,
    )
    from rlaif.constitution.published import as_yaml
    from rlaif.errors import InputError
    from rlaif.runs.files import check_free, write_whole

    pairs = read_annotated_pairs(source)
    for path in (gold, constitution):
        if path is not None:
            check_free(path, force=force)
    if gold is not None:
        write_whole(gold, b"".join(orjson.dumps(record) + b"\n" for record in pairs.gold))
    if constitution is not None:
        kept = principles_from_votes(pairs, least_agreement=min_agreement)
        if not kept:
            raise InputError(
                f"{source}: no principle agrees with the labels that often; no constitution was "
                "written",
                hint="lower --min-agreement",
            )
        entries = [{"id": p.id, "statement": p.statement} for p in kept]
        write_whole(constitution, as_yaml(source.stem, entries))
    for votes in pairs.votes.values():
        if json:
            _print_json(votes.to_json())
        else:
            print(f"{votes.agree:6} for {votes.disagree:6} against  {votes.statement}")
    for failure in pairs.failures:
        print(f"{failure.record_id}: {failure.message}", file=sys.stderr)
    print(f"{len(pairs.gold)} pairs, {len(pairs.failures)} broken", file=sys.stderr)


def _console() -> "Console":

    # A file or a pipe has no width to fit in.
    return make_console(highlight=False, width=None if sys.stdout.isatty() else 160)


def _show_tests(report: "TrialReport", least: float | None) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("judge", "principle", "right", "examples", "stuck on place"):
        table.add_column(column)
    for tested in report.tested:
        low = tested.accuracy is not None and tested.accuracy < (1.0 if least is None else least)
        cells = (f"{tested.right:g}", f"{len(tested.tried)}", f"{tested.stuck or ''}")
        table.add_row(tested.judge, tested.principle, *cells, style="red" if low else "")
    _console().print(table)
    for name in dict.fromkeys(tested.judge for tested in report.tested):
        cannot = [o.principle for o in report.below(0.5 + 1e-9) if o.judge == name]
        if cannot:
            print(f"{name} cannot apply (half of the examples or fewer): {', '.join(cannot)}")
    if report.untested:
        print(f"not tested: {', '.join(report.untested)}", file=sys.stderr)
    print(
        "A principle has few examples: one right or wrong is an anecdote, not a rate.",
        file=sys.stderr,
    )


def _show_explanation(explanation: "Explanation") -> None:
    from rich import box
    from rich.table import Table

    print(
        f"{explanation.judgments} judgments ({explanation.undecided} undecided), "
        f"{explanation.pairs} pairs"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    asked = any(one.relevant + one.irrelevant for one in explanation.principles.values())
    columns = ["principle", "asked", "decided", "of pairs", "flips without it", "only voice"]
    for column in [*columns, *(["relevant", "not"] if asked else [])]:
        table.add_column(column, justify="left" if column == "principle" else "right")
    ordered = sorted(explanation.principles.items(), key=lambda item: (-item[1].decided, item[0]))
    for name, influence in ordered:
        counts = (
            influence.asked,
            influence.decided,
            influence.pairs,
            influence.flips,
            influence.only,
            *((influence.relevant, influence.irrelevant) if asked else ()),
        )
        table.add_row(name, *(str(count) for count in counts))
    _console().print(table)
    never = explanation.never_mattered()
    if never:
        print(f"never mattered (no label changes without it): {', '.join(never)}")
    opposed = sorted(
        (item for item in explanation.contradictions.items() if item[1].opposed),
        key=lambda item: (-item[1].opposed, item[0]),
    )
    for (one_id, other_id), count in opposed[:10]:
        print(f"contradict on {count.opposed} of {count.both} comparisons: {one_id}, {other_id}")


def _print_json(value: dict[str, Any]) -> None:
    print_json(value)
