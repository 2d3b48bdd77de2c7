"""Principle-wise scores in the manner of SALMON: its labels, not its reward model.

Sun et al. 2023 (arXiv 2310.05910): for every pair and every principle d, the judge's
log-odds of A against B in both orders; their mean where both orders prefer the same response, else
0; divided by the variance of the principle's scores, so that no principle speaks louder than the
others only because the judge is surer there.

It asks what `pairwise` asks, with the principle and its opposite side by side, and differs in what
it makes of the replies:

- orders that contradict each other make an opinion of exactly ½ (`split_agreeing`), where pairwise
  averages their log-odds and lets the surer order win;
- log-odds are divided by the principle's variance, on record as a temperature.

This is not the whole method. SALMON trains a reward model that reads the principles and is given
others when the policy is trained; here no reward model reads any, and what is trained on these
labels knows the principles only by them.

Deviations: opinions are pooled by the principles' weights, as for every method, where the paper's
reward model is trained on the sign of the principle with the largest score among a drawn few; and
variances are given (see `measure_variances`), because a run must not depend on how far it has come.

Cost: two next-token calls per comparison and principle.
"""

from collections.abc import Sequence

from rlaif.config.judge import Salmon
from rlaif.judging.methods.flow import Flow, Question
from rlaif.judging.methods.pairwise import ask_letter
from rlaif.judging.position import split_agreeing
from rlaif.judging.transforms import Temperature, Transform
from rlaif.records import Judgment, Order

TEMPLATE = "judge/salmon"


def flow(question: Question[Salmon]) -> Flow:
    """Ask for A or B along one principle."""
    return (yield from ask_letter(question))


def transforms(settings: Salmon, principle: str) -> tuple[Transform, ...]:
    """Return the division by the principle's variance, if one is given."""
    variance = settings.variances.get(principle)
    return () if variance is None else (Temperature(variance),)


def measure_variances(judgments: Sequence[Judgment], *, judge: str) -> dict[str, float]:
    """Return the variance of each principle's combined log-odds over judgments.

    What ``salmon: {variances: …}`` of a later run can be given. Around 0 and not around the mean:
    which of two responses is first carries no meaning, so the mean says nothing. Principles whose
    log-odds are all 0, or that have none, are left out.

    Args:
        judgments: Of a finished run.
        judge: Name of the judge, of method ``salmon``.
    """
    squares: dict[str, list[float]] = {}
    for judgment in judgments:
        for principle, content in _contents(judgment, judge).items():
            squares.setdefault(principle, []).append(content**2)
    means = {principle: sum(some) / len(some) for principle, some in squares.items()}
    return {principle: mean for principle, mean in sorted(means.items()) if mean > 0.0}


def _contents(judgment: Judgment, judge: str) -> dict[str, float]:
    """Principle to combined log-odds, for principles with a number in both orders."""
    orders: dict[str, dict[Order, float]] = {}
    for verdict in judgment.verdicts:
        logit = verdict.content_logit()
        if verdict.judge == judge and logit is not None:
            orders.setdefault(verdict.principle, {})[verdict.order] = logit
    return {
        principle: split_agreeing(known[Order.AB], known[Order.BA]).content
        for principle, known in orders.items()
        if Order.AB in known and Order.BA in known
    }
