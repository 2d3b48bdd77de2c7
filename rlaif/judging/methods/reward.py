"""A trained reward model as judge: the difference of two scores is the log-odds.

A reward model that was trained on preferences by Bradley–Terry (Bai et al. 2022, arXiv 2212.08073,
and everyone since) gives scores r with P(a better than b) = σ(r_a − r_b), so

    logit = scale · (r_a − r_b)

with a ``scale`` of 1; another one is a temperature for a model that is too sure. It reads no
principle: what it was trained on speaks, so there is one verdict for each comparison, under its
own name, which weighs as much as all drawn principles together.

Cost: one score per response, whatever the principles.
"""

from rlaif.config.judge import Reward
from rlaif.constitution import Principle
from rlaif.engines import Score
from rlaif.judging.methods.flow import Flow, Outcome, Question

REWARD_PRINCIPLE = "reward-model"
"""What its verdicts name in place of a principle's id."""

SPEAKER = Principle(id=REWARD_PRINCIPLE, statement="What the reward model was trained on.")


def flow(question: Question[Reward]) -> Flow:
    """Ask for the score of each response, as the reply to its conversation."""
    first, second = yield tuple(
        Score(question.prompt.messages, response.text, purpose="judge")
        for response in question.responses
    )
    if first.score is None or second.score is None:
        return Outcome()
    return Outcome(scores=(first.score, second.score))


def factor(settings: Reward, _: str) -> float:
    """Return log-odds per unit of score."""
    return settings.scale
