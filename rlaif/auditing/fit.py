"""Fitting a calibration: T on one half of the prompts, its effect reported on the other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.auditing.gold import GoldPair
from rlaif.auditing.statistics.reliability import Reliability, reliability_of
from rlaif.judging import Judge, read_opinions
from rlaif.judging.calibration import Calibration, fit_temperature, negative_log_likelihood
from rlaif.judging.position import sigmoid
from rlaif.records import Choice, Judgment, content_uniform

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
    found = reliability_of(confidence, correct, [point.cluster for point in points], seed=seed)
    assert found is not None, "both halves were checked not to be empty"
    return found


def _logit(probability: float) -> float:
    inside = min(1.0 - _CERTAIN, max(_CERTAIN, probability))
    return math.log(inside) - math.log1p(-inside)
