"""Position: what a judge's verdicts owe to the place a response is shown in.

Measured on opinions (one judge under one principle) whose two orders were both read. All three say
nothing about a method that has no order, or that was asked in one only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.auditing.outcome import Outcome
from rlaif.auditing.statistics.accuracy import measure_share
from rlaif.auditing.statistics.figure import bootstrap_figure, mean_of
from rlaif.evaluation.intervals import Figure
from rlaif.judging import read_opinions
from rlaif.records import Choice, Order, Verdict
from rlaif.records.plain import Plain


@dataclass(frozen=True, slots=True)
class Position(Plain):
    """How much the place decides. Each None where it cannot be measured."""

    consistency: Figure | None
    """Share of opinions whose choice survives the swap, in [0, 1]."""

    bias: Figure | None
    """Mean log-odds added to whatever is shown first; negative: to what is shown second. Log-odds
    are capped as in aggregation."""

    fairness: Figure | None
    """Among opinions that pick the same place in both orders: share that picks the first place
    minus share that picks the second, in [−1, 1]; 0 is even."""


def measure_position(outcomes: Sequence[Outcome], *, seed: int) -> Position:
    """Measure consistency, bias and fairness."""
    clusters: list[str] = []
    couples: list[tuple[Verdict, Verdict]] = []
    biases: list[tuple[str, float]] = []
    for outcome in outcomes:
        for couple in _both_orders(outcome.judgment.verdicts):
            clusters.append(outcome.cluster)
            couples.append(couple)
        for opinion in read_opinions(outcome.judgment.verdicts):
            if opinion.bias is not None:
                biases.append((outcome.cluster, opinion.bias))
    same = [float(one.content_choice() is other.content_choice()) for one, other in couples]
    return Position(
        consistency=measure_share(clusters, same, seed=seed),
        bias=bootstrap_figure(
            mean_of([bias for _, bias in biases]), [cluster for cluster, _ in biases], seed=seed
        ),
        fairness=_fairness(clusters, couples, seed),
    )


def _both_orders(verdicts: Sequence[Verdict]) -> list[tuple[Verdict, Verdict]]:
    """The verdicts of each judge and principle that speak in both orders, AB first."""
    found: dict[tuple[str, str], dict[Order, Verdict]] = {}
    for verdict in verdicts:
        if verdict.choice is not Choice.ABSTAIN:
            found.setdefault((verdict.judge, verdict.principle), {})[verdict.order] = verdict
    return [
        (orders[Order.AB], orders[Order.BA])
        for orders in found.values()
        if Order.AB in orders and Order.BA in orders
    ]


def _fairness(
    clusters: Sequence[str], couples: Sequence[tuple[Verdict, Verdict]], seed: int
) -> Figure | None:
    kept, firsts = [], []
    for cluster, (one, other) in zip(clusters, couples, strict=True):
        if one.choice is other.choice and one.choice is not Choice.TIE:
            kept.append(cluster)
            firsts.append(float(one.choice is Choice.A))
    share = measure_share(kept, firsts, seed=seed)
    if share is None or share.low is None or share.high is None:
        return None
    ends = (2.0 * share.low - 1.0, 2.0 * share.high - 1.0)
    return Figure(2.0 * share.value - 1.0, *ends, share.n, share.method)
