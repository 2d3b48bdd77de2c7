"""Rule principles: decided by a check on the text, without a model, a call or a doubt."""

from collections.abc import Sequence

from rlaif.constitution import Principle
from rlaif.constitution.rules import check_rule
from rlaif.records import Choice, Comparison, Order, Verdict

RULES_JUDGE = "rules"
"""The name that rule verdicts carry; no other judge of a run may have it."""

_CHOICES = {(True, False): Choice.A, (False, True): Choice.B}


def judge_rules(principles: Sequence[Principle], comparison: Comparison) -> tuple[Verdict, ...]:
    """One verdict per rule principle: the response that alone satisfies it, else a tie.

    ``scores`` hold 1.0 for a response that satisfies the rule and 0.0 for one that does not, so a
    tie of two good responses can be told from a tie of two bad ones.

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
