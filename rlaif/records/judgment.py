"""Comparisons, verdicts and judgments: what judges say about two responses.

A *comparison* is two responses in content order, first and second. One judge reply about it, with
the responses shown in one order, is a *verdict*. All its verdicts together are a *judgment*, whose
``preference`` is the probability in [0, 1] that the **first** response is better.
Pure values; nothing here calls a model.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

from rlaif.records.identity import content_id
from rlaif.records.response import Response


class Choice(Enum):
    """What one judge reply says, in the order shown: A is the response shown first.

    Compare with ``is``; never write ``if choice:``, because every member is truthy.
    """

    A = "a"
    B = "b"
    TIE = "tie"
    """The judge said that neither is better."""

    ABSTAIN = "abstain"
    """No readable verdict. Never counted as a tie."""

    def flipped(self) -> "Choice":
        """Return the same choice with the two responses shown in the other order."""
        match self:
            case Choice.A:
                return Choice.B
            case Choice.B:
                return Choice.A
            case Choice.TIE | Choice.ABSTAIN:
                return self
            case _:
                assert_never(self)


class Order(Enum):
    """The order in which the two responses were shown to the judge."""

    AB = "ab"
    """The comparison's first response as A."""

    BA = "ba"
    """The comparison's second response as A."""

    NONE = "none"
    """The method scores each response separately, so there is no order."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to one prompt, to be judged."""

    first: Response
    second: Response

    @property
    def id(self) -> str:
        """Content id; the two orders of the same two responses have different ids."""
        return content_id("comparison", self.first.id, self.second.id)

    def swap(self) -> "Comparison":
        """Return the comparison with first and second exchanged."""
        return Comparison(self.second, self.first)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one judge said about one comparison under one principle in one order."""

    judge: str
    method: str
    principle: str
    order: Order
    choice: Choice
    """As shown: A is the response shown first (the first response when the order is NONE)."""

    logit: float | None = None
    """Log-odds, in the order shown, that A is better. None if the judge abstained or gave only
    a word (then use ``choice``)."""

    mass: float | None = None
    """Total probability of the allowed labels, in [0, 1]; None if unknown."""

    scores: tuple[float, float] | None = None
    """The scores of both responses, for methods that score them separately; in the order shown."""

    reason: str = ""
    """Why it abstained: ``unreadable``, ``refused``, ``low-mass``, ``not-relevant`` or ``failed``.
    Else empty."""

    raw: str = ""
    """The text of the judge's reply, if it has any."""

    calls: tuple[str, ...] = ()
    """Ledger keys of the replies behind this verdict."""

    def content_logit(self) -> float | None:
        """Log-odds that the comparison's *first* response is better; None without log-odds."""
        if self.logit is None:
            return None
        return -self.logit if self.order is Order.BA else self.logit

    def content_choice(self) -> Choice:
        """The choice in content order: A means the comparison's first response."""
        return self.choice.flipped() if self.order is Order.BA else self.choice


@dataclass(frozen=True, slots=True)
class Judgment:
    """All verdicts on one comparison, aggregated."""

    first_id: str
    second_id: str
    preference: float | None
    """P(first is better) after the recorded transforms; None if every verdict abstained."""

    raw_preference: float | None
    """The preference before any transform."""

    transforms: tuple[str, ...]
    """The transforms applied to ``raw_preference``, in order, each with its parameters."""

    agreement: float | None
    """Share, in [0, 1], of opinions (judge × principle) on the side of the preference; an opinion
    of exactly 0.5 counts half. Below 0.5 if a minority of high weight or certainty outweighs the
    others. None without a preference."""

    position_bias: float | None
    """Mean log-odds that the judges add to the response shown first; None unless both orders
    were read."""

    abstained: int
    """How many verdicts abstained."""

    verdicts: tuple[Verdict, ...]

    disagreement: float | None = None
    """Largest minus smallest preference of the judges, each over its principles, in [0, 1]. Rules
    do not count as a judge. None with fewer than two judges."""

    @property
    def id(self) -> str:
        """Content id over the two responses and what was decided about them."""
        return content_id("judgment", self.first_id, self.second_id, self.preference)

    @property
    def margin(self) -> float | None:
        """2·|preference − ½|, in [0, 1]; None without a preference."""
        return None if self.preference is None else abs(2.0 * self.preference - 1.0)

    def swap(self) -> "Judgment":
        """Return the same judgment with first and second exchanged."""

        def other(probability: float | None) -> float | None:
            return None if probability is None else 1.0 - probability

        swapped = {Order.AB: Order.BA, Order.BA: Order.AB}
        verdicts = tuple(
            replace(verdict, order=swapped[verdict.order])
            if verdict.order in swapped
            else replace(
                verdict,
                choice=verdict.choice.flipped(),
                logit=None if verdict.logit is None else -verdict.logit,
                scores=None if verdict.scores is None else (verdict.scores[1], verdict.scores[0]),
            )
            for verdict in self.verdicts
        )
        return replace(
            self,
            first_id=self.second_id,
            second_id=self.first_id,
            preference=other(self.preference),
            raw_preference=other(self.raw_preference),
            verdicts=verdicts,
        )
