"""Accuracy against gold, where gold is decided; ties apart.

- A gold tie has no right answer to be found, so accuracy is over decided gold labels. A judge's tie
  there counts ½, which is what breaking it at random would give. Abstentions are left out of
  accuracy and said beside it (``answered``).
- How often the judge ties where gold ties is a figure of its own.

The interval is the wider, at either end, of two: Wilson, right for independent pairs and few of
them; the bootstrap over prompts, right for pairs that share prompts and many prompts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.auditing.outcome import Outcome
from rlaif.auditing.statistics.figure import bootstrap_figure, mean_of
from rlaif.evaluation.intervals import Figure, wilson
from rlaif.records import Choice
from rlaif.records.plain import Plain

CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Accuracy(Plain):
    """How often a judge agrees with decided gold."""

    _derived = ("against_chance",)

    figure: Figure | None
    """With the wider of both intervals; None when nothing could be compared."""

    wilson: tuple[float, float] | None
    bootstrap: tuple[float, float] | None
    """None when the pairs share a single prompt."""

    decided: int
    """Pairs whose gold label is not a tie."""

    answered: int
    """Those of them on which the judge has a preference, ties included."""

    @property
    def against_chance(self) -> str:
        """``above chance``, ``below chance``, or ``not distinguishable from chance``."""
        if self.figure is None:
            return "not measured"
        low, high = self.figure.low, self.figure.high
        if low is not None and low > CHANCE:
            return "above chance"
        if high is not None and high < CHANCE:
            return "below chance"
        return "not distinguishable from chance"


def measure_accuracy(outcomes: Sequence[Outcome], *, seed: int) -> Accuracy:
    """Compare preferences with decided gold labels."""
    decided = sum(outcome.gold is not Choice.TIE for outcome in outcomes)
    counted = [(o.cluster, o.credit) for o in outcomes if o.credit is not None]
    clusters, credits = [c for c, _ in counted], [credit for _, credit in counted]
    return _share(clusters, credits, decided=decided, seed=seed)


def measure_longer(outcomes: Sequence[Outcome], *, seed: int) -> Accuracy:
    """Return the accuracy of always picking the longer response; equal lengths count ½."""
    decided = [outcome for outcome in outcomes if outcome.gold is not Choice.TIE]
    credits = [_longer_credit(outcome) for outcome in decided]
    return _share([o.cluster for o in decided], credits, decided=len(decided), seed=seed)


def measure_tie_agreement(outcomes: Sequence[Outcome], *, seed: int) -> Figure | None:
    """Return how often the judge ties where gold ties, of those it has a preference on."""
    tied = [o for o in outcomes if o.gold is Choice.TIE and o.choice is not Choice.ABSTAIN]
    agreed = [float(outcome.choice is Choice.TIE) for outcome in tied]
    return measure_share([outcome.cluster for outcome in tied], agreed, seed=seed)


def measure_share(clusters: Sequence[str], values: Sequence[float], *, seed: int) -> Figure | None:
    """Return the mean of values in [0, 1] with the wider of both intervals; None without any."""
    return _share(clusters, values, decided=len(values), seed=seed).figure


def _share(
    clusters: Sequence[str], credits: Sequence[float], *, decided: int, seed: int
) -> Accuracy:
    drawn = bootstrap_figure(mean_of(credits), clusters, seed=seed) if credits else None
    if drawn is None:
        return Accuracy(None, None, None, decided, 0)
    low, high = wilson(math.fsum(credits), len(credits))
    bootstrap = None
    widest = (low, high)
    if drawn.low is not None and drawn.high is not None:
        bootstrap = (drawn.low, drawn.high)
        widest = (min(low, drawn.low), max(high, drawn.high))
    figure = Figure(drawn.value, *widest, len(credits), "widest" if bootstrap else "wilson")
    return Accuracy(figure, (low, high), bootstrap, decided, len(credits))


def _longer_credit(outcome: Outcome) -> float:
    first, second = outcome.lengths
    if first == second:
        return 0.5
    return 1.0 if (first > second) is (outcome.gold is Choice.A) else 0.0
