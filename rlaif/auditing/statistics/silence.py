"""Ties, abstentions and label mass: where a judge does not choose, and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaif.auditing.gold import Outcome
from rlaif.auditing.statistics.accuracy import share_choosing
from rlaif.evaluation.intervals import Figure, share_figure
from rlaif.records import Choice
from rlaif.records.plain import Plain


@dataclass(frozen=True, slots=True)
class Silence(Plain):
    """How often a judge does not choose."""

    ties: Figure | None
    """Share of pairs with a preference of exactly ½, of those with a preference."""

    undecided: Figure | None
    """Share of pairs without a preference, because the verdicts it needs abstained."""

    abstained: Figure | None
    """Share of verdicts (single replies) that abstained."""

    reasons: dict[str, int]
    """Abstaining verdicts by reason."""

    verdicts: int


@dataclass(frozen=True, slots=True)
class Mass(Plain):
    """Probability that fell on the allowed labels, over the verdicts that report it."""

    mean: Figure
    median: float
    least: float
    tenth: float
    """One verdict in ten has less."""

    below_half: float
    """Share of verdicts whose labels together are less likely than everything else."""


def measure_silence(outcomes: Sequence[Outcome]) -> Silence:
    """Count ties and abstentions."""
    spoken = [outcome for outcome in outcomes if outcome.choice is not Choice.ABSTAIN]
    verdicts = [(o.cluster, verdict) for o in outcomes for verdict in o.judgment.verdicts]
    reasons = Counter(v.reason for _, v in verdicts if v.choice is Choice.ABSTAIN)
    return Silence(
        ties=share_choosing(Choice.TIE, spoken),
        undecided=share_choosing(Choice.ABSTAIN, outcomes),
        abstained=share_figure(
            [float(verdict.choice is Choice.ABSTAIN) for _, verdict in verdicts],
            [cluster for cluster, _ in verdicts],
        ),
        reasons=dict(sorted(reasons.items())),
        verdicts=len(verdicts),
    )


def measure_mass(outcomes: Sequence[Outcome]) -> Mass | None:
    """Summarise label mass; None for methods that have no labels."""
    reported = [
        (outcome.cluster, verdict.mass)
        for outcome in outcomes
        for verdict in outcome.judgment.verdicts
        if verdict.mass is not None
    ]
    masses = [mass for _, mass in reported]
    clusters = [cluster for cluster, _ in reported]
    mean = share_figure(masses, clusters)
    if mean is None:
        return None
    return Mass(
        mean=mean,
        median=float(np.median(masses)),
        least=min(masses),
        tenth=float(np.quantile(masses, 0.1)),
        below_half=sum(mass < 0.5 for mass in masses) / len(masses),
    )
