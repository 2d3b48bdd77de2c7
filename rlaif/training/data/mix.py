"""Demonstrations of several sets in one training, in given proportions.

SL-CAI mixes revisions with demonstrations of help, so that a policy that learns to decline does not
forget to answer (Bai et al. 2022, 2212.08073, section 3.1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from rlaif.errors import InputError
from rlaif.records import content_uniform
from rlaif.training.data.messages import turns_of
from rlaif.training.data.read import Loaded


@dataclass(frozen=True, slots=True)
class Part:
    """A set to mix in."""

    loaded: Loaded
    ratio: float
    """Its rows per row of the set it is mixed into; > 0."""


def mix_in(main: Loaded, parts: Sequence[Part], *, plain: bool, seed: int) -> Loaded:
    """Return the rows of ``main`` with those of the parts drawn by content; none is repeated.

    A part with fewer rows than its ratio asks for gives all of them, with a note.

    Args:
        main: As `read_demonstrations` returns it.
        parts: The sets to mix in.
        plain: Whether texts stay texts (``chat_template: none``).
        seed: Of the draw.

    Raises:
        InputError: With ``plain``, one set holds texts and another conversations.
    """
    rows, notes, left_out = _rows(main, plain=plain), list(main.notes), dict(main.left_out or {})
    for part in parts:
        mixed = _draw(_rows(part.loaded, plain=plain), part.ratio * len(main.dataset), seed)
        wanted = math.ceil(part.ratio * len(main.dataset))
        notes += part.loaded.notes
        for reason, count in (part.loaded.left_out or {}).items():
            left_out[reason] = left_out.get(reason, 0) + count
        short = f": it has only {len(mixed)} of the {wanted} asked for"
        notes.append(
            f"mixed in: {len(mixed)} rows of {part.loaded.name}{short * (len(mixed) < wanted)}"
        )
        rows += mixed
    kinds = {type(row[name]) for row in rows for name in ("prompt", "completion")}
    if len(kinds) > 1:
        raise InputError(
            "mix: one set holds texts and another conversations",
            hint="chat_template: none keeps texts bare; give all sets the same form",
        )
    columns = dict.fromkeys(name for row in rows for name in row)
    table = {name: [row.get(name) for row in rows] for name in columns}
    return Loaded(Dataset.from_dict(table), tuple(notes), left_out, main.name)


def _rows(loaded: Loaded, *, plain: bool) -> list[dict[str, Any]]:
    rows = [dict(row) for row in loaded.dataset]
    if not plain:
        for row in rows:
            row["prompt"] = turns_of(row["prompt"], "user")
            row["completion"] = turns_of(row["completion"], "assistant")
    return rows


def _draw(rows: list[dict[str, Any]], count: float, seed: int) -> list[dict[str, Any]]:
    """Draw by content, so that a set that grows keeps most of what was drawn."""
    order = sorted(
        range(len(rows)), key=lambda i: content_uniform(seed, "mix", rows[i]["prompt"], str(i))
    )
    return [rows[i] for i in sorted(order[: math.ceil(count)])]
