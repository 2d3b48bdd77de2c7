"""Consistency of a judge with itself: in the other order, asked again, over three responses.

Position is measured on opinions (one judge under one principle) whose two orders were both read; it
cannot be measured for a method that has no order, or that was asked in one only.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rlaif.auditing.gold import Outcome
from rlaif.auditing.statistics.censored import Limited, mean_of_limited
from rlaif.evaluation.intervals import Figure, share_figure
from rlaif.judging.position import LOGIT_CAP, cut
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
    clusters: Sequence[str], repeated: Sequence[Sequence[Choice]]
) -> Figure | None:
    """Return the mean share of the most frequent choice when the same pair is asked repeatedly.

    Shi et al. 2024 (arXiv 2406.07791), repetition stability. 1 is always the same; k repetitions
    of a coin flip give more than ½, because one side always has the most. An abstention is a
    choice too: a judge that sometimes refuses is not stable.

    Args:
        clusters: One per pair.
        repeated: For each pair the choices of all repetitions, at least two.
    """
    shares = [max(Counter(choices).values()) / len(choices) for choices in repeated]
    return share_figure(shares, clusters)


def measure_triads(outcomes: Sequence[Outcome]) -> Triads | None:
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
    share = share_figure(cyclic, clusters)
    return None if share is None else Triads(share, len(set(clusters)))


@dataclass(frozen=True, slots=True)
class Position(Plain):
    """How much the place decides. Each None where it cannot be measured."""

    consistency: Figure | None
    """Share of opinions whose choice survives the swap, in [0, 1]."""

    bias: Figure | None
    """Mean log-odds added to whatever is shown first; negative: to what is shown second. Log-odds
    at the cap of aggregation are taken for what they are, limits: see `censored`."""

    fairness: Figure | None
    """Among opinions that pick the same place in both orders: share that picks the first place
    minus share that picks the second, in [−1, 1]; 0 is even."""

    saturated: float | None = None
    """Share of the opinions with numbers of which at least one order is at the cap."""


def measure_position(outcomes: Sequence[Outcome], *, seed: int) -> Position:
    """Measure consistency, bias and fairness."""
    clusters: list[str] = []
    couples: list[tuple[Verdict, Verdict]] = []
    for outcome in outcomes:
        for couple in _both_orders(outcome.judgment.verdicts):
            clusters.append(outcome.cluster)
            couples.append(couple)
    same = [float(one.content_choice() is other.content_choice()) for one, other in couples]
    halves = [_half_difference(*both) for both in zip(clusters, couples, strict=True)]
    limited = [half for half in halves if half is not None]
    numbers = sum(one.logit is not None and other.logit is not None for one, other in couples)
    cut_short = numbers - sum(half.side == 0 for half in limited)
    return Position(
        consistency=share_figure(same, clusters),
        bias=mean_of_limited(limited, seed=seed),
        fairness=_fairness(clusters, couples),
        saturated=cut_short / numbers if numbers else None,
    )


def _half_difference(cluster: str, couple: tuple[Verdict, Verdict]) -> Limited | None:
    """What an opinion says about the bias; None without numbers, or where both are cut alike."""
    if couple[0].logit is None or couple[1].logit is None:
        return None
    # Log-odds for what is shown first: their mean is the bias, whatever the responses are worth.
    shown = [cut(verdict.logit or 0.0, LOGIT_CAP) for verdict in couple]
    sides = {int(math.copysign(1, logit)) for logit in shown if abs(logit) >= LOGIT_CAP}
    if len(sides) > 1:  # sure of the same response in both orders
        return None
    room = LOGIT_CAP - abs(shown[0] - shown[1]) / 2.0
    return Limited(cluster, sum(shown) / 2.0, sides.pop() if sides else 0, room)


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


def _fairness(clusters: Sequence[str], couples: Sequence[tuple[Verdict, Verdict]]) -> Figure | None:
    kept, firsts = [], []
    for cluster, (one, other) in zip(clusters, couples, strict=True):
        if one.choice is other.choice and one.choice is not Choice.TIE:
            kept.append(cluster)
            firsts.append(float(one.choice is Choice.A))
    share = share_figure(firsts, kept)
    if share is None or share.low is None or share.high is None:
        return None
    ends = (2.0 * share.low - 1.0, 2.0 * share.high - 1.0)
    return Figure(2.0 * share.value - 1.0, *ends, share.n, share.method)
