"""Length: what a judge's preferences owe to one response being longer, gold held fixed.

Length enters as *doublings*, log₂ of the ratio of characters, so that an effect reads "per doubling
of length" and does not depend on how long responses are in a set. Gold is held fixed because longer
responses may really be better: without it, a good judge on such a set would look biased.

Two fits of one model, judge = constant + effect · doublings + weight · gold (+1 a, −1 b, 0 tie):

- on log-odds, by least squares, where the judge gives numbers: right whatever the noise, as long as
  the noise does not go with length;
- on picks, by logistic regression (a tie is half a pick), for every judge. Noise that flips picks
  makes this effect smaller than the one in log-odds.

Intervals are normal, from a covariance that allows pairs of a prompt to depend on each other
(sandwich, Liang & Zeger 1986, with G/(G − 1)); with fewer than about 20 prompts they are too
narrow.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from rlaif.auditing.gold import Outcome
from rlaif.auditing.statistics.figure import Numbers
from rlaif.evaluation.intervals import CONFIDENCE, Figure
from rlaif.records import Choice

_GOLD = {Choice.A: 1.0, Choice.B: -1.0, Choice.TIE: 0.0}
_PICK = {Choice.A: 1.0, Choice.B: 0.0, Choice.TIE: 0.5}
_MOST_STEPS = 50
_CONVERGED = 1e-8
_SEPARATED = 15.0
"""Log-odds beyond this say that picks are perfectly explained, and the fit has no end."""

_EFFECT = 1  # column of the design that holds length


def fit_log_odds(outcomes: Sequence[Outcome]) -> Figure | None:
    """Return the log-odds per doubling of length, from a linear fit of the judge's log-odds.

    Positive for a judge that likes longer responses. None where fewer than two prompts have
    numbers, or length and gold do not vary enough to tell their effects apart.
    """
    kept, targets = [], []
    for outcome in outcomes:
        raw = outcome.judgment.raw_preference
        if raw is not None and 0.0 < raw < 1.0:
            kept.append(outcome)
            targets.append(math.log(raw) - math.log1p(-raw))
    design = _design(kept)
    if design is None:
        return None
    y = np.array(targets)
    bread = design.T @ design
    coefficients = np.linalg.solve(bread, design.T @ y)
    scores = design * (y - design @ coefficients)[:, None]
    return _effect(coefficients, bread, scores, [outcome.cluster for outcome in kept])


def fit_picks(outcomes: Sequence[Outcome]) -> Figure | None:
    """Return the log-odds per doubling of length, from a logistic fit of the judge's picks.

    None as for `fit_log_odds`, and where gold or length explain every pick (the fit has no end).
    """
    kept = [outcome for outcome in outcomes if outcome.choice is not Choice.ABSTAIN]
    design = _design(kept)
    if design is None:
        return None
    y = np.array([_PICK[outcome.choice] for outcome in kept])
    coefficients = np.zeros(design.shape[1])
    for _ in range(_MOST_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ coefficients, -30.0, 30.0)))
        bread = design.T @ (design * (p * (1.0 - p))[:, None])
        try:
            step = np.linalg.solve(bread, design.T @ (y - p))
        except np.linalg.LinAlgError:
            return None
        coefficients = coefficients + step
        if np.abs(coefficients).max() > _SEPARATED:
            return None
        if np.abs(step).max() < _CONVERGED:
            scores = design * (y - p)[:, None]
            return _effect(coefficients, bread, scores, [outcome.cluster for outcome in kept])
    return None


def _design(outcomes: Sequence[Outcome]) -> Numbers | None:
    if len({outcome.cluster for outcome in outcomes}) < 2:
        return None
    columns = [[1.0, outcome.doublings, _GOLD[outcome.gold]] for outcome in outcomes]
    design = np.array(columns)
    # Gold that never varies is collinear with the constant.
    if np.ptp(design[:, 2]) == 0.0:
        design = design[:, :2]
    return design if np.linalg.matrix_rank(design) == design.shape[1] else None


def _effect(
    coefficients: Numbers, bread: Numbers, scores: Numbers, clusters: Sequence[str]
) -> Figure:
    names, of_item = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
    summed = np.zeros((len(names), scores.shape[1]))
    np.add.at(summed, of_item, scores)
    inverse = np.linalg.inv(bread)
    covariance = inverse @ (summed.T @ summed) @ inverse * len(names) / (len(names) - 1)
    half = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * math.sqrt(covariance[_EFFECT, _EFFECT])
    value = float(coefficients[_EFFECT])
    return Figure(value, value - half, value + half, len(clusters), "sandwich")
