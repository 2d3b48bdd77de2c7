"""Verdicts that no model gives: rule principles, and labels by construction.

A rule is a check on the text. By construction (RLCD, Yang et al. 2023, arXiv 2307.12950) what was
sampled under the principle is the better response: such a label is as good as the student's
obedience to the affix, and no better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlaif.constitution import Principle
from rlaif.constitution.rules import check_rule
from rlaif.judging.protocol import Cost, Needs
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Comparison, Order, Prompt, Verdict
from rlaif.records.response import CONTRAST_AGAINST, CONTRAST_FOR

RULES_JUDGE = "rules"
"""The name that rule verdicts carry; no other judge of a run may have it."""

_CHOICES = {(True, False): Choice.A, (False, True): Choice.B}


def judge_rules(principles: Sequence[Principle], comparison: Comparison) -> tuple[Verdict, ...]:
    """One verdict per rule principle: the response that alone satisfies it, else a tie.

    ``scores`` hold 1.0 for a response that satisfies the rule and 0.0 for one that does not, so a
    tie of two good responses differs from a tie of two bad ones.

    Raises:
        ValueError: A principle is not a rule principle.
    """
    return tuple(_verdict(principle, comparison) for principle in principles)


def _verdict(principle: Principle, comparison: Comparison) -> Verdict:
    if principle.rule is None:
        raise ValueError(f"{principle.id} is not a rule principle")
    first = check_rule(principle.rule, comparison.first.text)
    second = check_rule(principle.rule, comparison.second.text)
    return Verdict(
        judge=RULES_JUDGE,
        method="rule",
        principle=principle.id,
        order=Order.NONE,
        choice=_CHOICES.get((first, second), Choice.TIE),
        scores=(float(first), float(second)),
    )


CONSTRUCTION_JUDGE = "construction"
"""The name that such verdicts carry; no other judge of a run may have it."""

_NO_CALLS = Cost("comparison")
_BY_ORIGIN = {
    (CONTRAST_FOR, CONTRAST_AGAINST): Choice.A,
    (CONTRAST_AGAINST, CONTRAST_FOR): Choice.B,
}


@dataclass(frozen=True, slots=True)
class ConstructionJudge:
    """Reads the preference off the origins of the two responses."""

    name: str = CONSTRUCTION_JUDGE
    method: str = "construction"
    needs: Needs = ()
    cost: Cost = _NO_CALLS

    template_fingerprints: Mapping[str, str] = field(default_factory=dict)

    def transforms(self, principle: str) -> tuple[Transform, ...]:  # noqa: ARG002 - there is none
        """None."""
        return ()

    async def judge(
        self,
        prompt: Prompt,  # noqa: ARG002 - the origins say it
        comparison: Comparison,
        principles: Sequence[Principle],
    ) -> tuple[Verdict, ...]:
        """One verdict per principle, which must be the one that was contrasted.

        Raises:
            ValueError: The responses were not sampled for and against one principle.
        """
        origins = comparison.first.origin, comparison.second.origin
        if origins not in _BY_ORIGIN:
            raise ValueError(f"{origins[0]} and {origins[1]} are not the two sides of a contrast")
        return tuple(
            Verdict(
                judge=self.name,
                method=self.method,
                principle=principle.id,
                order=Order.NONE,
                choice=_BY_ORIGIN[origins],
            )
            for principle in principles
        )
