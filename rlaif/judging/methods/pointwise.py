"""Pointwise judging: each response gets its own score, and the difference is the preference.

Direct RLAIF (Lee et al. 2023, arXiv 2309.00267): the judge gives a score, and its
expected value over the label probabilities is rescaled,

    s = (Σ i·P(i) − 5) / 4  in [−1, 1],      logit = scale · (s_a − s_b).

Deviations: 1 to 9 in place of 1 to 10, because ``10`` is two tokens in many vocabularies; and the
paper uses s as a reward, where a preference needs a scale: log-odds per unit of s. The default of 4
makes one point of nine worth log-odds of 1.

Cost: one next-token call per response and principle, the same call in every comparison.
"""

from rlaif.config.judge import Pointwise
from rlaif.judging.methods.flow import Flow, Outcome, Question, label_request
from rlaif.judging.reading import read_expected, read_together
from rlaif.records.tool_use import spoken

TEMPLATE = "judge/pointwise"
LABELS = tuple("123456789")
_MIDDLE = (1 + len(LABELS)) / 2
_REACH = (len(LABELS) - 1) / 2


def flow(question: Question[Pointwise]) -> Flow:
    """Ask for a score of each response, from 1 to 9."""
    replies = yield tuple(
        label_request(
            question.render(
                statement=question.principle.statement,
                conversation=spoken(question.prompt.messages),
                response=response.text,
            ),
            LABELS,
        )
        for response in question.responses
    )
    read = [
        read_expected(reply, labels=len(LABELS), min_mass=question.min_mass) for reply in replies
    ]
    reason, mass = read_together(read)
    return Outcome(scores=rescale(read[0].value, read[1].value), mass=mass, reason=reason)


def factor(settings: Pointwise, _: str) -> float:
    """Return log-odds per unit of score."""
    return settings.scale


def rescale(first: float | None, second: float | None) -> tuple[float, float] | None:
    """Carry two expected scores from [1, 9] to [−1, 1]; None when either is unknown."""
    if first is None or second is None:
        return None
    return (first - _MIDDLE) / _REACH, (second - _MIDDLE) / _REACH
