"""Outcome: one gold pair and what one judge made of it; what every statistic is computed from."""

import math
from dataclasses import dataclass

from rlaif.auditing.gold import GoldPair
from rlaif.records import Choice, Judgment

_EVEN = 1e-9  # preferences closer to ½ than this differ from it by rounding alone


@dataclass(frozen=True, slots=True)
class Outcome:
    """A gold label beside a judgment. Choices are in the order of the gold pair."""

    cluster: str
    """Outcomes of the same cluster (prompt) are not independent of each other."""

    gold: Choice
    lengths: tuple[int, int]
    """Characters of the two responses."""

    judgment: Judgment
    category: str = ""

    @classmethod
    def build(cls, pair: GoldPair, judgment: Judgment) -> "Outcome":
        """Put a gold pair and its judgment together."""
        lengths = (len(pair.comparison.first.text), len(pair.comparison.second.text))
        return cls(pair.cluster, pair.label, lengths, judgment, pair.category)

    @property
    def choice(self) -> Choice:
        """What the judge prefers; TIE at exactly ½, ABSTAIN without a preference."""
        return choice_of(self.judgment)

    @property
    def credit(self) -> float | None:
        """1 where judge and a decided gold label agree, 0 where not, ½ where the judge ties.

        None where the gold label is a tie or the judge abstained: neither can be right or wrong.
        """
        if self.gold is Choice.TIE or self.choice is Choice.ABSTAIN:
            return None
        if self.choice is Choice.TIE:
            return 0.5
        return 1.0 if self.choice is self.gold else 0.0

    @property
    def doublings(self) -> float:
        """How many times longer the first response is, as a base-2 logarithm; 0 when equal."""
        first, second = self.lengths
        return math.log2((first + 1) / (second + 1))


def choice_of(judgment: Judgment) -> Choice:
    """What a judgment prefers, in content order; TIE at exactly ½, ABSTAIN without preference."""
    if judgment.preference is None:
        return Choice.ABSTAIN
    if abs(judgment.preference - 0.5) < _EVEN:
        return Choice.TIE
    return Choice.A if judgment.preference > 0.5 else Choice.B
