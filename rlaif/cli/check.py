"""`rlaif check`: try what a file asks of models, before it costs anything."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif.cli.generate import print_estimate
from rlaif.cli.options import overrides_of
from rlaif.cli.output import print, print_json, say

if TYPE_CHECKING:
    from rlaif.checking import Checked
    from rlaif.sessions.role_checks import RoleCheck


def check(
    config: Annotated[
        Path, typer.Argument(help="A run, audit, evaluation, loop, training or server file.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key, such as judges.0.model=x."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Ask each server of a file once, and estimate calls, tokens, price and minutes.

    Nothing is written. Ends as the command itself would where a role cannot work.
    """
    from rlaif.checking import check as check_file

    done = check_file(config, overrides=overrides_of(set_))
    if json:
        print_json(done.to_json())
    else:
        print_checked(done)
    done.raise_problems()


def print_checked(done: "Checked") -> None:
    """Print what was found out, role by role, then the estimates."""
    for role in done.roles:
        print_role(role)
    if not done.roles:
        print(f"this {done.kind} asks no model through an engine")
    for what, estimate in done.estimates.items():
        print(f"{what}: ", end="")
        print_estimate(estimate, json=False)
    if done.minutes is not None:
        print(f"at most about {done.minutes:.1f} minutes, with 20 calls at once")


def print_role(role: "RoleCheck") -> None:
    """Print one line for an engine, and one for each thing to know about it."""
    where = f" at {role.address}" if role.address else ""
    state = ("ok" if role.ok else "cannot work") if role.remote else "in this process: not asked"
    facts = [f"{call.kind} {call.seconds:.2f} s" for call in role.calls if call.ok]
    if role.label_mass is not None:
        facts.append(f"labels have {role.label_mass:.1%} ({role.takes.get('labels', 'exact')})")
    left_out = [name for name, what in role.takes.items() if what in (False, "omitted")]
    if left_out:
        facts.append(f"without {', '.join(left_out)}")
    if role.remote:
        facts.append("price known" if role.priced else "price unknown")
    say(f"  {role.label:20} {role.model}{where}: {'; '.join([state, *facts])}")
    for words in role.warnings:
        print(f"warning: {role.label}: {words}", file=sys.stderr)
