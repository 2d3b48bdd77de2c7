"""The catalogue: every measure that an evaluation takes, known before a model is asked.

The scorecard lists its measures from here, the loop checks here which measure can decide it, and
a test holds the table of docs/evaluation.md against it.
"""

from collections.abc import Sequence

from rlaif.evaluation.diversity import (
    COMMON,
    CUT_OFF,
    DISTINCT,
    DUPLICATES,
    SELF_REPETITION,
    TOKENS,
    WORDS,
    likelihood_measure,
)
from rlaif.evaluation.judged import (
    AT_EQUAL_LENGTH,
    JUDGED_WINS,
    LENGTH_CONTROLLED,
    POSITION_BIAS,
)
from rlaif.evaluation.judged_refusals import JUDGED_FULL_REFUSALS, JUDGED_REFUSALS
from rlaif.evaluation.measure import Measure
from rlaif.evaluation.plan import Plan
from rlaif.evaluation.refusals import FULL_REFUSALS, REFUSALS
from rlaif.evaluation.rules import RULES, applying_rules, rule_measure
from rlaif.evaluation.wins import RULE_WINS
from rlaif.records import Prompt

ALWAYS = (
    WORDS,
    TOKENS,
    CUT_OFF,
    *DISTINCT.values(),
    DUPLICATES,
    SELF_REPETITION,
    COMMON,
    REFUSALS,
    FULL_REFUSALS,
)
"""Taken of every model, whatever the settings."""

BY_JUDGES = (JUDGED_WINS, POSITION_BIAS, AT_EQUAL_LENGTH)


def list_measures(plan: Plan, prompts: Sequence[Prompt], *, models: int) -> tuple[Measure, ...]:
    """Return what a scorecard of this plan names, in its order.

    Rules and judges count only where one of them speaks about one of the prompts; comparisons
    with the baseline need two ``models``, and the difficulty of prompts a third.
    """
    rules = [
        principle
        for principle in plan.constitution.rules()
        if any(applying_rules([principle], prompt) for prompt in prompts)
    ]
    measures = [*([RULES] if rules else []), *map(rule_measure, rules), *ALWAYS]
    if plan.refusal_judge is not None:
        measures += [JUDGED_REFUSALS, JUDGED_FULL_REFUSALS]
    if plan.likelihood_under is not None:
        measures.append(likelihood_measure(plan.likelihood_under))
    if models > 1:
        measures += [RULE_WINS] if rules else []
        if _judges_speak(plan, prompts):
            measures += [*BY_JUDGES, *([LENGTH_CONTROLLED] if models > 2 else [])]
    return tuple(measures)


def _judges_speak(plan: Plan, prompts: Sequence[Prompt]) -> bool:
    return plan.panel is not None and any(
        principle.weight > 0 and principle.applies(prompt.tags)
        for principle in plan.constitution.judged()
        for prompt in prompts
    )
