"""`rlaif constitution`: lint, show and compare constitutions; the schema that editors use."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlaif.cli import constitution_checks
from rlaif.cli.output import make_console, print, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from rlaif.constitution.file_format import Finding
    from rlaif.constitution.load import LoadedFile
    from rlaif.constitution.models import Principle

app = typer.Typer(
    help="Wishes as code: lint, show, compare, schema, test, explain.", no_args_is_help=True
)
app.command("test")(constitution_checks.try_principles)
app.command("explain")(constitution_checks.explain)
app.command("import-votes")(constitution_checks.import_votes)

Source = Annotated[str, typer.Argument(help="A file, or a shipped name such as hhh.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")]


@app.command()
def lint(
    sources: Annotated[list[str], typer.Argument(help="Files, or shipped names such as hhh.")],
    prompt_tag: Annotated[
        list[str] | None,
        typer.Option(help="A tag that prompts carry (repeat for more); checks applies_to."),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Warnings fail too.")] = False,
    json: AsJson = False,
) -> None:
    """Report problems in constitutions as file:line:column, with fixes. Exit 2 on errors."""
    from rlaif.constitution.lint import lint_constitution

    severities: set[str] = set()
    for source in sources:
        findings = lint_constitution(source, prompt_tags=prompt_tag)
        for finding in findings:
            if json:
                _print_json(finding.as_json())
            else:
                fix = f"; {finding.fix}" if finding.fix else ""
                place, message = f"{finding.where}: {finding.severity}", f"{finding.message}{fix}"
                print(f"{place}: {message} [{finding.code}]")
        print(_counted(source, findings), file=sys.stderr)
        severities |= {finding.severity for finding in findings}
    if "error" in severities or (strict and "warning" in severities):
        raise typer.Exit(2)


@app.command()
def show(
    source: Source,
    principle: Annotated[
        str | None, typer.Argument(help="Id of one principle, to see all of it.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Print a constitution as it stands after extends, with where each principle comes from."""
    from rlaif.constitution.load import finish, read_constitution

    loaded = read_constitution(source)
    constitution = finish(loaded)
    chosen = constitution.principles if principle is None else (_find(loaded, principle),)
    if json:
        if principle is None:
            head = constitution.model_dump(mode="json", include={"name", "version", "description"})
            facts = {"fingerprint": constitution.fingerprint, "principles": len(chosen)}
            _print_json({"type": "constitution", **head, **facts})
        for each in chosen:
            facts = {"fingerprint": each.fingerprint, "from": loaded.sources(each.id)}
            _print_json({"type": "principle", **each.model_dump(mode="json"), **facts})
        return
    console = make_console(highlight=False)
    if principle is not None:
        console.print(_in_full(loaded, chosen[0]))
        return
    console.print(
        f"{constitution.name} {constitution.version}", style="bold", markup=False, end="  "
    )
    console.print(f"fingerprint {constitution.fingerprint}", style="dim")
    console.print(constitution.description, markup=False)
    console.print(_overview(loaded, chosen))


@app.command()
def diff(
    old: Source,
    new: Source,
    json: AsJson = False,
) -> None:
    """Say what changed between two constitutions, in their own terms, and which prompts show it."""
    from rich.text import Text

    from rlaif.auditing.principles.reach import all_prompts, describe_reach, find_reached
    from rlaif.constitution.diff import diff_constitutions, render_diff
    from rlaif.constitution.load import load_constitution
    from rlaif.templates import TemplateSet

    before, after = load_constitution(old), load_constitution(new)
    difference = diff_constitutions(before, after)
    prompts = all_prompts(TemplateSet.open())
    reached = [find_reached(change, before, after, prompts) for change in difference.changes]
    if json:
        for change, names in zip(difference.changes, reached, strict=True):
            _print_json({**change.as_json(), "reaches": names})
        return
    console = make_console(highlight=False)
    styles = {"+": "green", "-": "red", "~": "yellow"}
    notes = [describe_reach(names, prompts) for names in reached]
    for line in render_diff(difference, notes):
        console.print(Text(line, style=styles.get(line[:1], "")), soft_wrap=True)


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="Write it here (default: stdout).")] = None,
    force: constitution_checks.Force = False,
) -> None:
    """Print the JSON Schema of constitution files, for editors and other tools."""
    from rlaif.constitution.schema import render_schema
    from rlaif.runs.files import check_free, write_whole

    if out is None:
        sys.stdout.write(render_schema())
        return
    check_free(out, force=force)
    write_whole(out, render_schema().encode())
    print(f"wrote {out}", file=sys.stderr)


class Layout(StrEnum):
    """Of a published list; see `rlaif.constitution.published`."""

    critiques = "critiques"
    choices = "choices"
    traits = "traits"


@app.command("import")
def import_published(
    source: Annotated[Path, typer.Argument(help="A published list, JSON or text.")],
    out: Annotated[Path, typer.Option(help="Write the constitution here (YAML).")],
    layout: Annotated[
        Layout | None, typer.Option(help="Of the list (default: recognised by its content).")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the constitution (default: the file's name).")
    ] = None,
    force: constitution_checks.Force = False,
) -> None:
    """Turn a published list of principles into a constitution, and lint it.

    Critique and revision requests as in Bai et al. 2022, "choose the response that ..." lists, and
    first-person traits.
    """
    from rlaif.constitution.lint import lint_constitution
    from rlaif.constitution.published import as_yaml, read_published
    from rlaif.runs.files import check_free, write_whole

    entries = read_published(source, None if layout is None else layout.value)
    check_free(out, force=force)
    write_whole(out, as_yaml(name or source.stem, entries))
    print(f"wrote {out}: {len(entries)} principles")
    findings = lint_constitution(out)
    for finding in findings:
        if finding.severity != "info":
            print(f"{finding.where}: {finding.severity}: {finding.message}; {finding.fix}")
    print(_counted(str(out), findings), file=sys.stderr)
    print("read each statement before you use it: it was derived from the list", file=sys.stderr)


def _counted(source: str, findings: "tuple[Finding, ...]") -> str:
    if not findings:
        return f"{source}: no problems"
    names = {"error": "error", "warning": "warning", "info": "note"}
    parts = []
    for severity, name in names.items():
        count = sum(finding.severity == severity for finding in findings)
        if count:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
    return f"{source}: {', '.join(parts)}"


def _find(loaded: "LoadedFile", principle_id: str) -> "Principle":
    from rlaif.config import nearest
    from rlaif.constitution.load import finish
    from rlaif.errors import ConstitutionError

    constitution = finish(loaded)
    try:
        return constitution.principle(principle_id)
    except KeyError:
        ids = [principle.id for principle in constitution.principles]
        hint = nearest(principle_id, ids).removeprefix("; ")
        message = f"{constitution.name} has no principle {principle_id!r}"
        raise ConstitutionError(message, hint=hint) from None


def _overview(loaded: "LoadedFile", principles: "tuple[Principle, ...]") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("id", "statement", "polarity", "weight", "tags", "from"):
        table.add_column(column, justify="right" if column == "weight" else "left")
    for principle in principles:
        statement = Text(principle.statement)
        if principle.rule is not None:
            checks = ", ".join(f"{check:.40}" for check in _checks(principle))
            statement.append(f"  ({checks})", style="cyan")
        if principle.applies_to:
            statement.append(f"  (only for {', '.join(principle.applies_to)})", style="cyan")
        files = [Path(file).name for file in loaded.sources(principle.id)]
        cells = (principle.polarity, f"{principle.weight:g}", ", ".join(principle.tags))
        table.add_row(
            Text(principle.id, style="bold"),
            statement,
            *(Text(cell) for cell in cells),
            Text(" + ".join(files)),
        )
    return table


def _in_full(loaded: "LoadedFile", principle: "Principle") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    plain = principle.model_dump(exclude={"rule", "examples"})
    rows: list[tuple[str, str]] = [
        (name, ", ".join(value) if isinstance(value, tuple) else str(value))
        for name, value in plain.items()
        if value not in ("", ())
    ]
    rows += [("rule", check) for check in _checks(principle)]
    for example in principle.examples:
        rows += [("prompt", example.prompt), ("better", example.better), ("worse", example.worse)]
    for file, fields in loaded.sources(principle.id).items():
        rows.append(("from", f"{file} ({', '.join(fields)})"))
    rows.append(("fingerprint", principle.fingerprint))
    for name, value in rows:
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _checks(principle: "Principle") -> list[str]:
    if principle.rule is None:
        return []
    return [
        f"{name} {value}" for name, value in principle.rule.model_dump(exclude_none=True).items()
    ]


def _print_json(value: dict[str, Any]) -> None:
    print_json(value)
