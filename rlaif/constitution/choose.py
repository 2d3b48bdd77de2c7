"""Which principles speak about one comparison: drawn by content, so that edits stay local.

Weighted sampling without replacement by exponential races (Efraimidis & Spirakis 2006): each
principle draws its own arrival time from (seed, subject, its id) alone, the k earliest win.
So rewording a principle changes no draw, and adding or removing one only changes the draws
that it wins or won.
"""

import math
from collections.abc import Sequence
from typing import Literal

from rlaif.constitution.models import Principle
from rlaif.records import content_uniform

HowMany = Literal["one", "all"] | int


def choose_principles(
    principles: Sequence[Principle],
    *,
    how_many: HowMany,
    seed: int,
    subject: str,
    prompt_tags: tuple[str, ...] | None = None,
) -> tuple[Principle, ...]:
    """Return the principles for one subject (a comparison or response id), in their own order.

    Principles of weight 0 and those for other prompt tags are never drawn. ``all`` or a number
    beyond what is there gives every candidate.

    Args:
        principles: To draw from.
        how_many: At most.
        seed: Of the run.
        subject: What they speak about.
        prompt_tags: Of the prompt; None where every one of the principles applies to it.
    """
    candidates = [
        p for p in principles if p.weight > 0 and (prompt_tags is None or p.applies(prompt_tags))
    ]
    if how_many == "all":
        return tuple(candidates)
    count = 1 if how_many == "one" else how_many

    def arrival(principle: Principle) -> float:
        return -math.log(content_uniform(seed, subject, principle.id)) / principle.weight

    winners = {p.id for p in sorted(candidates, key=arrival)[:count]}
    return tuple(p for p in candidates if p.id in winners)
