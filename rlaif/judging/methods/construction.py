"""Labels by construction (RLCD): what was sampled under the principle is the better one.

Yang et al. 2023 (arXiv 2307.12950). No model is asked. The label is as good as the student's
obedience to the affix, and no better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.constitution import Principle
from rlaif.judging.protocol import Cost, Needs
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Comparison, Order, Prompt, Verdict
from rlaif.records.response import CONTRAST_AGAINST, CONTRAST_FOR

CONSTRUCTION_JUDGE = "construction"
"""The name that such verdicts carry; no other judge of a run may have it."""

_CHOICES = {
    (CONTRAST_FOR, CONTRAST_AGAINST): Choice.A,
    (CONTRAST_AGAINST, CONTRAST_FOR): Choice.B,
}


@dataclass(frozen=True, slots=True)
class ConstructionJudge:
    """Reads the preference off the origins of the two responses."""

    name: str = CONSTRUCTION_JUDGE
    method: str = "construction"
    needs: Needs = ()

    @property
    def template_fingerprints(self) -> Mapping[str, str]:
        """None: it shows nothing to anybody."""
        return {}

    @property
    def cost(self) -> Cost:
        """Nothing."""
        return Cost("comparison")

    def transforms(self, principle: str) -> tuple[Transform, ...]:  # noqa: ARG002 - there is none
        """Nothing."""
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
        if origins not in _CHOICES:
            raise ValueError(f"{origins[0]} and {origins[1]} are no couple of a contrast")
        return tuple(
            Verdict(
                judge=self.name,
                method=self.method,
                principle=principle.id,
                order=Order.NONE,
                choice=_CHOICES[origins],
            )
            for principle in principles
        )
