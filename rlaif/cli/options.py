"""Options that several commands share."""

from typing import Annotated, Any

import typer

from rlaif.config import parse_overrides

NoPreflight = Annotated[
    bool,
    typer.Option("--no-preflight", help="Start without asking each server once first."),
]


def overrides_of(set_: list[str] | None, *, no_preflight: bool = False) -> dict[str, Any]:
    """Return what ``--set`` and ``--no-preflight`` change."""
    return {**parse_overrides(set_ or []), **({"preflight": False} if no_preflight else {})}
