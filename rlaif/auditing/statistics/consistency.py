"""Consistency of a judge with itself: asked again, and over three responses at a time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rlaif.auditing.outcome import Outcome
from rlaif.auditing.statistics.accuracy import measure_share
from rlaif.auditing.statistics.figure import bootstrap_figure, mean_of
from rlaif.evaluation.intervals import Figure
from rlaif.records import Choice
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
    choice of its own: a judge that sometimes refuses is not stable.

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
    """Count cyclic triads among the responses of each prompt; None where there is no triad."""
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
