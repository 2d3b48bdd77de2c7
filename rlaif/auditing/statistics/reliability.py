"""Reliability: whether a judge that says 80 % is right in 80 of 100 cases; and its calibration.

A preference and its opposite are one statement, so confidence is max(p, 1 − p), in [½, 1], and
correctness is whether the likelier side is the gold one (½ where p is ½). Gold ties and
abstentions do not count. ECE = Σ_b |B_b|/n · |accuracy_b − confidence_b| (Naeini et al. 2015) over
bins of equal width. It is biased upward in small samples: even a perfectly calibrated judge has an
ECE above 0. A calibration is fitted on one half of the prompts and its effect is reported on the
other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaif.auditing.gold import GoldPair, Outcome
from rlaif.auditing.statistics.figure import Numbers, bootstrap_figure, divide, mean_of
from rlaif.evaluation.intervals import Figure, wilson
from rlaif.judging import Judge, read_opinions
from rlaif.judging.calibration import Calibration, fit_temperature, negative_log_likelihood
from rlaif.judging.position import sigmoid
from rlaif.records import Choice, Judgment, content_uniform
from rlaif.records.plain import Plain

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Judgments of about the same confidence."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    """Ends of the Wilson interval."""


@dataclass(frozen=True, slots=True)
class Reliability(Plain):
    """How well confidence matches how often the judge is right."""

    ece: Figure
    brier: Figure
    """Mean squared distance of the preference from gold, in [0, 1]; always ½ gives 0.25."""

    bins: tuple[Bin, ...]
    """The bins that hold judgments."""


def measure_reliability(outcomes: Sequence[Outcome], *, seed: int) -> Reliability | None:
    """Measure ECE, Brier score and the bins behind them; None when nothing can be compared."""
    kept = [outcome for outcome in outcomes if outcome.credit is not None]
    return reliability_of(
        [_confidence(outcome) for outcome in kept],
        [float(outcome.credit or 0.0) for outcome in kept],
        [outcome.cluster for outcome in kept],
        seed=seed,
    )


def reliability_of(
    confidence: Sequence[float],
    correct: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int,
    bins: int = BINS,
) -> Reliability | None:
    """Measure reliability from plain numbers.

    Args:
        confidence: Probability of the likelier side, in [½, 1], one per statement.
        correct: 1 where that side is the gold one, 0 where not, ½ where both are equally likely.
        clusters: The prompt of each.
        seed: Of the draws.
        bins: How many bins of equal width.
    """
    if not clusters:
        return None
    correct_N, confidence_N = np.array(correct), np.array(confidence)
    place_N = np.minimum(((confidence_N - 0.5) * 2.0 * bins).astype(int), bins - 1)
    inside_NK = (place_N[:, None] == np.arange(bins)).astype(np.float64)
    gap_NK = inside_NK * (correct_N - confidence_N)[:, None]
    # The likelier side is gold with this probability, so p's squared error is (1 − it)².
    squared_N = (np.where(correct_N == 0.0, confidence_N, 1.0 - confidence_N)) ** 2

    def ece(weights_BN: Numbers) -> Numbers:
        return divide(np.abs(weights_BN @ gap_NK).sum(axis=1), weights_BN.sum(axis=1))

    first = bootstrap_figure(ece, clusters, seed=seed)
    second = bootstrap_figure(mean_of(squared_N), clusters, seed=seed)
    if first is None or second is None:
        return None
    return Reliability(first, second, _bins(place_N, confidence_N, correct_N, bins))


def _confidence(outcome: Outcome) -> float:
    preference = outcome.judgment.preference
    assert preference is not None, "an outcome with credit has a preference"
    return max(preference, 1.0 - preference)


def _bins(place_N: Any, confidence_N: Numbers, correct_N: Numbers, bins: int) -> tuple[Bin, ...]:
    filled = []
    for place in range(bins):
        inside = place_N == place
        n = int(inside.sum())
        if n:
            low, high = wilson(float(correct_N[inside].sum()), n)
            filled.append(
                Bin(
                    low=0.5 + place / (2 * bins),
                    high=0.5 + (place + 1) / (2 * bins),
                    n=n,
                    confidence=float(confidence_N[inside].mean()),
                    accuracy=float(correct_N[inside].mean()),
                    accuracy_low=low,
                    accuracy_high=high,
                )
            )
    return tuple(filled)


FEWEST = 20
"""Opinions that each half must have: with fewer, T would be noise."""

_CERTAIN = 1e-9  # how close to 0 and 1 probabilities are taken for log-odds


@dataclass(frozen=True, slots=True)
class _Point:
    cluster: str
    logit: float
    first: bool


def fit_calibration(
    judge: Judge,
    judged: Sequence[tuple[GoldPair, Judgment]],
    *,
    fingerprint: str,
    question: str,
    gold: Mapping[str, str],
    seed: int,
) -> Calibration | str:
    """Fit a temperature to a judge's opinions on decided gold pairs.

    Prompts are split by a hash of their content, so that no prompt is in both halves and the same
    prompt is always in the same half.

    Args:
        judge: For its name, method and the transforms its opinions already go through.
        judged: Gold pairs of all sets with this judge's judgments.
        fingerprint: The judge's.
        question: What it was asked, as ``name@fingerprint``.
        gold: Gold set to its fingerprint.
        seed: Of the split and the intervals.

    Returns:
        The calibration, or why there is none, in a sentence.
    """
    points = [point for pair, judgment in judged for point in _points(judge, pair, judgment)]
    fitted = [point for point in points if content_uniform(seed, "half", point.cluster) < 0.5]
    held = [point for point in points if content_uniform(seed, "half", point.cluster) >= 0.5]
    if min(len(fitted), len(held)) < FEWEST:
        return (
            f"no calibration: {len(fitted)} and {len(held)} opinions with decided gold in the two "
            f"halves, at least {FEWEST} are needed in each"
        )
    t = fit_temperature([p.logit for p in fitted], [p.first for p in fitted])
    if t is None:
        return "no calibration: the judge's log-odds do not point towards gold"
    before, after = _report(held, 1.0, seed), _report(held, t, seed)
    logits, firsts = [p.logit for p in held], [p.first for p in held]
    return Calibration(
        t=t,
        judge=judge.name,
        fingerprint=fingerprint,
        method=judge.method,
        question=question,
        fitted_on=len(fitted),
        reported_on=len(held),
        ece_before=before.ece.to_json(),
        ece_after=after.ece.to_json(),
        nll_before=negative_log_likelihood(logits, firsts, 1.0),
        nll_after=negative_log_likelihood(logits, firsts, t),
        gold=dict(gold),
    )


def _points(judge: Judge, pair: GoldPair, judgment: Judgment) -> list[_Point]:
    if pair.label is Choice.TIE:
        return []
    points = []
    for opinion in read_opinions(judgment.verdicts):
        probability = opinion.probability
        for transform in judge.transforms(opinion.principle):
            probability = transform.apply(probability)
        logit = _logit(probability)
        points.append(_Point(pair.cluster, logit, pair.label is Choice.A))
    return points


def _report(points: Sequence[_Point], t: float, seed: int) -> Reliability:
    """Reliability at a temperature, over opinions."""
    confidence, correct = [], []
    for point in points:
        p = sigmoid(point.logit / t)
        confidence.append(max(p, 1.0 - p))
        correct.append(0.5 if point.logit == 0.0 else float((point.logit > 0.0) is point.first))
    report = reliability_of(confidence, correct, [point.cluster for point in points], seed=seed)
    assert report is not None, "both halves were checked not to be empty"
    return report


def _logit(probability: float) -> float:
    inside = min(1.0 - _CERTAIN, max(_CERTAIN, probability))
    return math.log(inside) - math.log1p(-inside)
