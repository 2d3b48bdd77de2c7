"""Which column holds the prompts, where the settings do not say."""

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from rlaif.errors import RecordError
from rlaif.inputs.columns import is_missing

CANDIDATES = ("messages", "prompt", "instruction", "question")

LOOKED_AT = 20
"""Records at the beginning that are looked at."""

log = logging.getLogger(__name__)


def guess_column(records: Iterable[Any], name: str) -> str:
    """Return the only candidate that some of these records hold, and say so; else ``prompt``.

    Args:
        records: The first ones.
        name: What messages call the source.

    Raises:
        RecordError: Several candidates are there.
    """
    held = {
        column
        for record in records
        if isinstance(record, Mapping)
        for column in CANDIDATES
        if not is_missing(record.get(column))
    }
    found = [column for column in CANDIDATES if column in held]
    if len(found) > 1:
        raise RecordError(
            f"{name}: several columns may hold the prompts: {', '.join(found)}",
            hint=f"say which with prompts.column, such as --set prompts.column={found[0]}",
        )
    if found and found[0] != "prompt":
        _say(f"{name}: prompts are read from the column {found[0]!r} (prompts.column is not set)")
    return found[0] if found else "prompt"


@cache
def _say(message: str) -> None:
    """Say it once, however often the source is read."""
    log.warning(message)
