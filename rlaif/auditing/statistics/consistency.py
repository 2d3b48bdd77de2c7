"""Consistency of a judge with itself: in the other order, asked again, over three responses.

Position is measured on opinions (one judge under one principle) whose two orders were both read; it
cannot be measured for a method that has no order, or that was asked in one only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rlaif.auditing.gold import Outcome
from rlaif.auditing.statistics.accuracy import measure_share
from rlaif.auditing.statistics.figure import bootstrap_figure, mean_of
from rlaif.evaluation.intervals import Figure
from rlaif.judging import read_opinions
from rlaif.records import Choice, Order, Verdict
from rlaif.records.plain import Plain


@dataclass(frozen=True, slots=True)
class Triads(Plain):
    """Three responses to a prompt, each compared with the others and none tied."""

    cyclic: Figure
    """Share in which a beats b, b beats c and c beats a. Coin flips give 0.25."""

    prompts: int
    """Prompts that have such triads."""


def measure_stability(
    clusters: Sequence[str], repeated: Sequence[Sequence[Choice]], *, seed: int
) -> Figure | None:
    """Return the mean share of the most frequent choice when the same pair is asked repeatedly.

    Shi et al. 2024 (arXiv 2406.07791), repetition stability. 1 is always the same; k repetitions
    of a coin flip give more than ½, because one side always has the most. An abstention is a
    choice too: a judge that sometimes refuses is not stable.

    Args:
        clusters: One per pair.
        repeated: For each pair the choices of all repetitions, at least two.
        seed: Of the draws.
    """
    shares = [max(Counter(choices).values()) / len(choices) for choices in repeated]
    if not shares:
        return None
    if set(shares) == {1.0}:
        return measure_share(clusters, shares, seed=seed)
    return bootstrap_figure(mean_of(shares), clusters, seed=seed)


def measure_triads(outcomes: Sequence[Outcome], *, seed: int) -> Triads | None:
    """Count cyclic triads among the responses of each prompt; None without triads."""
    beats: dict[str, dict[tuple[str, str], bool]] = {}
    for outcome in outcomes:
        judgment = outcome.judgment
        ids = (judgment.first_id, judgment.second_id)
        if outcome.choice in (Choice.A, Choice.B) and ids[0] != ids[1]:
            games = beats.setdefault(outcome.cluster, {})
            games[ids] = outcome.choice is Choice.A
            games[(ids[1], ids[0])] = outcome.choice is Choice.B
    clusters: list[str] = []
    cyclic: list[float] = []
    for cluster, games in sorted(beats.items()):
        for one, two, three in combinations(sorted({first for first, _ in games}), 3):
            ring = [(one, two), (two, three), (three, one)]
            if all(game in games for game in ring):
                clusters.append(cluster)
                cyclic.append(float(len({games[game] for game in ring}) == 1))
    share = measure_share(clusters, cyclic, seed=seed)
    return None if share is None else Triads(share, len(set(clusters)))


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
    by_source: dict[tuple[str, str], dict[Order, Verdict]] = {}
    for verdict in verdicts:
        if verdict.choice is not Choice.ABSTAIN:
            by_source.setdefault((verdict.judge, verdict.principle), {})[verdict.order] = verdict
    return [
        (orders[Order.AB], orders[Order.BA])
        for orders in by_source.values()
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
