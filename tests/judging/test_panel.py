from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from rlaif.constitution import Principle, Rule
from rlaif.judging import (
    Clamp,
    Cost,
    Needs,
    Transform,
    judge_comparison,
    soften_disagreement,
)
from rlaif.records import Choice, Comparison, Judgment, Order, Prompt, Verdict
from tests.judging.fake import BRIEF, COMPARISON, KIND, PROMPT

SHORT = Principle(id="short", statement="Short.", kind="rule", rule=Rule(max_words=3))


@dataclass
class Says:
    """A judge that always says the same log-odds."""

    name: str
    logit: float | None
    method: str = "test"
    needs: Needs = ()
    done: tuple[Transform, ...] = ()
    template_fingerprints: dict[str, str] = field(default_factory=dict)
    cost: Cost = Cost("comparison", labels=1)  # noqa: RUF009 - frozen

    def transforms(self, principle: str) -> tuple[Transform, ...]:  # noqa: ARG002
        return self.done

    async def judge(
        self,
        prompt: Prompt,  # noqa: ARG002
        comparison: Comparison,  # noqa: ARG002
        principles: Sequence[Principle],
    ) -> tuple[Verdict, ...]:
        if self.logit is None:
            return tuple(
                Verdict(self.name, "test", p.id, Order.NONE, Choice.ABSTAIN, reason="refused")
                for p in principles
            )
        choice = Choice.A if self.logit > 0 else Choice.B
        return tuple(
            Verdict(self.name, "test", p.id, Order.NONE, choice, logit=self.logit)
            for p in principles
        )


async def panel(*judges: Says, rules: Sequence[Principle] = ()) -> Judgment:
    return await judge_comparison(
        PROMPT,
        COMPARISON,
        judges=[(judge, 1.0) for judge in judges],
        drawn=[KIND],
        candidates=[KIND, BRIEF],
        rules=rules,
    )


async def test_disagreement_is_the_spread_between_judges() -> None:
    # σ(2) = 0.880797, σ(−1) = 0.268941, σ(0.5) = 0.622459
    judgment = await panel(Says("one", 2.0), Says("two", -1.0), Says("three", 0.5))
    assert judgment.disagreement == pytest.approx(0.880797 - 0.268941, abs=1e-6)
    assert judgment.preference == pytest.approx((0.880797 + 0.268941 + 0.622459) / 3, abs=1e-6)
    assert judgment.swap().disagreement == judgment.disagreement


async def test_one_judge_cannot_disagree_and_rules_do_not_count_as_a_judge() -> None:
    alone = await panel(Says("one", 2.0), rules=[SHORT])
    assert alone.disagreement is None
    silent = await panel(Says("one", 2.0), Says("two", None))
    assert silent.disagreement is None
    assert silent.abstained == 1


async def test_rules_and_judges_are_weighed_together() -> None:
    # The drawn principle stands for both candidates: weight 2. First is short: the rule says 1.
    judgment = await panel(Says("one", 0.0), rules=[SHORT])
    assert judgment.preference == pytest.approx((2 * 0.5 + 1.0) / 3)


async def test_without_a_drawn_principle_no_judge_is_asked() -> None:
    judgment = await judge_comparison(
        PROMPT,
        COMPARISON,
        judges=[(Says("one", 2.0), 1.0)],
        drawn=[],
        candidates=[],
        rules=[SHORT],
    )
    assert judgment.preference == 1.0
    assert len(judgment.verdicts) == 1


async def test_disagreement_above_the_limit_draws_towards_one_half_on_record() -> None:
    judgment = await panel(Says("one", 2.0), Says("two", -1.0))
    # preference 0.574869, disagreement 0.611856; 0.4/0.611856 = 0.653749
    softened = soften_disagreement(judgment, above=0.4)
    assert softened.preference == pytest.approx(0.5 + 0.653749 * 0.074869, abs=1e-6)
    assert softened.raw_preference == judgment.preference
    assert softened.transforms == ("soften(0.653749)",)
    assert soften_disagreement(judgment, above=0.7) is judgment
    alone = await panel(Says("one", 2.0))
    assert soften_disagreement(alone, above=0.1) is alone


async def test_each_judges_transforms_touch_its_own_opinions_alone() -> None:
    # σ(2) clamped to 0.6; σ(−1) as it is
    judgment = await panel(Says("one", 2.0, done=(Clamp(0.4),)), Says("two", -1.0))
    assert judgment.preference == pytest.approx((0.6 + 0.268941) / 2, abs=1e-6)
    assert judgment.raw_preference == pytest.approx((0.880797 + 0.268941) / 2, abs=1e-6)
    assert judgment.transforms == ("one: clamp(0.4..0.6)",)
    assert judgment.disagreement == pytest.approx(0.6 - 0.268941, abs=1e-6)
