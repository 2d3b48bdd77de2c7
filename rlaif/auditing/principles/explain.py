"""Explain: which principle decided how much of a run, which never mattered, which contradict.

All from stored verdicts, without asking anybody: a judgment is combined again with one principle's
verdicts left out. Preferences are taken before transforms.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from rlaif.auditing.principles.influence import (
    OpinionWeights,
    contributions,
    deciding_principle,
    leave_one_out,
    side,
    weights_of,
)
from rlaif.evaluation.intervals import wilson
from rlaif.records import Comparison, Judgment, Row
from rlaif.records.plain import plain_fields
from rlaif.runs import Run, open_run


@dataclass(slots=True)
class Influence:
    """What one principle did in a run. Counts of judgments, unless said otherwise."""

    asked: int = 0
    """In which it had an opinion."""

    decided: int = 0
    """In which it pulled hardest towards the preference."""

    pairs: int = 0
    """Preference pairs, of those it decided."""

    flips: int = 0
    """In which the other side would be preferred without it."""

    only: int = 0
    """In which there would be no preference without it: nobody else spoke."""

    ties: int = 0
    """In which its opinion was exactly ½."""

    @property
    def mattered(self) -> bool:
        """Whether any label would be another, or missing, without it."""
        return self.flips + self.only > 0


@dataclass(slots=True)
class Contradiction:
    """Two principles with opinions on the same comparisons."""

    both: int = 0
    """Comparisons on which neither was exactly even."""

    opposed: int = 0
    """Of those: on which they preferred different responses."""

    def to_json(self) -> dict[str, Any]:
        """Return the counts, and their share with its Wilson interval."""
        low, high = wilson(self.opposed, self.both)
        share = self.opposed / self.both
        return {
            "both": self.both,
            "opposed": self.opposed,
            "share": share,
            "low": low,
            "high": high,
        }


@dataclass(slots=True)
class Explanation:
    """What the principles of a run did."""

    judgments: int = 0
    undecided: int = 0
    """Without preference, or exactly even: nothing decided them."""

    pairs: int = 0
    principles: dict[str, Influence] = field(default_factory=dict)
    contradictions: dict[tuple[str, str], Contradiction] = field(default_factory=dict)

    def never_mattered(self) -> list[str]:
        """Principles without which every label would be on the same side."""
        return [name for name, influence in self.principles.items() if not influence.mattered]

    def to_json(self) -> dict[str, Any]:
        """Return the counts, and which principles never mattered."""
        return {
            "judgments": self.judgments,
            "undecided": self.undecided,
            "pairs": self.pairs,
            "principles": {name: plain_fields(one) for name, one in self.principles.items()},
            "never_mattered": self.never_mattered(),
            "contradictions": [
                {"principles": list(names), **found.to_json()}
                for names, found in self.contradictions.items()
                if found.both
            ],
        }


def explain_run(run: str | Path | Run) -> Explanation:
    """Say which principle decided how much of a run, which never mattered, which contradict.

    Args:
        run: The run, or its directory; it is only read.

    Raises:
        InputError: There is no such run.
    """
    found = run if isinstance(run, Run) else open_run(run)
    return explain_rows(found.rows(), weights_of(found))


def explain_rows(rows: Iterable[Row], weights: OpinionWeights) -> Explanation:
    """Count what principles did, row by row; memory grows with the principles only."""
    found = Explanation(
        principles={principle.id: Influence() for principle in weights.constitution.principles}
    )
    for row in rows:
        pairs = Counter(frozenset((pair.chosen_id, pair.rejected_id)) for pair in row.pairs)
        found.pairs += len(row.pairs)
        for judgment in row.judgments:
            own = weights.of(judgment.verdicts, row.prompt.tags)
            first, second = row.response(judgment.first_id), row.response(judgment.second_id)
            behind = pairs[frozenset((judgment.first_id, judgment.second_id))]
            _count(found, Comparison(first, second), judgment, own, behind)
    return found


def _count(
    found: Explanation,
    comparison: Comparison,
    judgment: Judgment,
    weights: Mapping[tuple[str, str], float],
    pairs: int,
) -> None:
    found.judgments += 1
    parts = contributions(judgment, weights)
    sides = {name: side(0.5 + part) or 0 for name, part in parts.items()}
    for name, one in sides.items():
        influence = found.principles.setdefault(name, Influence())
        influence.asked += 1
        influence.ties += one == 0
    for couple in combinations(sorted(sides), 2):
        here, there = (sides[name] for name in couple)
        if here and there:
            contradiction = found.contradictions.setdefault(couple, Contradiction())
            contradiction.both += 1
            contradiction.opposed += here != there
    direction = side(judgment.raw_preference)
    if not direction:
        found.undecided += 1
        return
    decider = deciding_principle(parts, direction)
    if decider is not None:
        found.principles[decider].decided += 1
        found.principles[decider].pairs += pairs
    for name in parts:
        left = side(leave_one_out(comparison, judgment, name, weights))
        found.principles[name].only += left is None
        found.principles[name].flips += left is not None and left != direction
