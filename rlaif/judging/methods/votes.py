"""Votes: several sampled verdicts become one probability.

A judge that writes says A or B, with no word on how sure it is; a judge that reasons first is sure
of whatever it reasoned. Asked K times at a temperature, it gives K votes, and

    p = (n_A + ½) / (K + 1)

is the mean of Beta(n_A + ½, K − n_A + ½): the share of A under Jeffreys' prior, which is worth one
vote, half for each side, so that K equal votes are no certainty. With K = 8 the label is between
.056 and .944. A vote read from label probabilities counts as much as it says, p for A and 1 − p
for B.
"""

import math
from collections import Counter
from collections.abc import Sequence

from rlaif.judging.position import sigmoid
from rlaif.judging.reading import LabelReading, choose, read_together
from rlaif.records import Choice, Message, content_seed

PRIOR = 0.5
"""Votes that each side has before any was cast."""

_POINTS = {Choice.A: 1.0, Choice.TIE: 0.5, Choice.B: 0.0}


def pool_votes(votes: Sequence[LabelReading]) -> LabelReading:
    """Return what several samples of one verdict say together; a single one says what it says.

    Those that abstain have no vote. When they are more than half, the verdict abstains, for the
    reason that most of them have.
    """
    if len(votes) == 1:
        return votes[0]
    cast = [vote for vote in votes if vote.choice is not Choice.ABSTAIN]
    if 2 * len(cast) < len(votes):
        reasons = Counter(vote.reason for vote in votes if vote.choice is Choice.ABSTAIN)
        return LabelReading(Choice.ABSTAIN, reason=reasons.most_common(1)[0][0])
    for_a = math.fsum(
        _POINTS[vote.choice] if vote.logit is None else sigmoid(vote.logit) for vote in cast
    )
    logit = math.log(for_a + PRIOR) - math.log(len(cast) - for_a + PRIOR)
    return LabelReading(choose(logit), logit, read_together(cast)[1])


def draw_seeds(what: str, messages: Sequence[Message], count: int) -> tuple[int, ...]:
    """Return seeds of samples; more are the same and more."""
    return tuple(content_seed(number, what, messages) for number in range(count))
