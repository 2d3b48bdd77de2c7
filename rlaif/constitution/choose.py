"""Which principles a comparison is judged by: drawn by content, so that edits stay local.

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
) -> tuple[Principle, ...]:
    """Return the principles for one subject (a comparison or response id), in their own order.

    Principles of weight 0 are never drawn. ``all``, or a number above the number of
    candidates, returns every candidate.

    Args:
        principles: The candidates: those that apply to the prompt.
        how_many: The most to draw.
        seed: The run's seed.
        subject: Id of what they are drawn for.
    """
    candidates = [principle for principle in principles if principle.weight > 0]
    if how_many == "all":
        return tuple(candidates)

    def arrival(principle: Principle) -> float:
        return -math.log(content_uniform(seed, subject, principle.id)) / principle.weight

    if how_many == "one":
        return (min(candidates, key=arrival),) if candidates else ()
    winners = {p.id for p in sorted(candidates, key=arrival)[:how_many]}
    return tuple(p for p in candidates if p.id in winners)


def count_asked(principles: Sequence[Principle], how_many: HowMany) -> int:
    """Return how many principles stand behind a label, for prompts without tags."""
    plain = [principle for principle in principles if principle.applies(())]
    return len(choose_principles(plain, how_many=how_many, seed=0, subject=""))
