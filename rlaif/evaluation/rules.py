"""Rule satisfaction: which responses keep the rules of a constitution, decided without a model.

It cannot tell whether a response is any good. An empty-headed answer of the right length
keeps every rule of length; read it beside diversity and likelihood.
"""

from collections.abc import Sequence
from functools import partial

from rlaif.constitution import Principle
from rlaif.constitution.rules import check_rule
from rlaif.evaluation.measure import Group, Measure, Measured, Row
from rlaif.records import Prompt, Response

RULES = Measure(
    "rules",
    "responses that keep every rule that applies to their prompt",
    better="higher",
    kind="share",
    cannot_tell="whether the responses are useful, true or harmless",
)


def measure_rules(groups: Sequence[Group], principles: Sequence[Principle]) -> list[Measured]:
    """Return the share of responses that keep all rules, then the share for each rule.

    Only rule principles with a weight above 0 count. A prompt to which a rule does not apply is
    left out of that rule's share, and out of the first one when no rule applies to it.
    """
    rules = [p for p in principles if p.rule is not None and p.weight > 0]
    if not rules:
        return []
    return [
        _measured(RULES, groups, rules),
        *(_measured(rule_measure(p), groups, [p]) for p in rules),
    ]


def applying_rules(principles: Sequence[Principle], prompt: Prompt) -> list[Principle]:
    """Return the rule principles with a weight above 0 that apply to a prompt."""
    return [p for p in principles if p.rule is not None and p.weight > 0 and p.applies(prompt.tags)]


def _measured(measure: Measure, groups: Sequence[Group], rules: Sequence[Principle]) -> Measured:
    values: dict[str, Row] = {}
    for group in groups:
        applying = applying_rules(rules, group.prompt)
        if applying:
            values[group.prompt.id] = group.row(partial(_kept, applying))
    return Measured(measure, values)


def _kept(principles: Sequence[Principle], response: Response) -> float:
    return float(all(p.rule is None or check_rule(p.rule, response.text) for p in principles))


def rule_measure(principle: Principle) -> Measure:
    """Return the measure of one rule principle."""
    return Measure(
        f"rules/{principle.id}",
        f"responses that keep the rule: {principle.statement}",
        better="higher",
        kind="share",
        cannot_tell=RULES.cannot_tell,
    )
