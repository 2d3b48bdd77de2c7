"""Length: what a judge's preferences owe to one response being longer, gold held fixed.

Length enters as *doublings*, log₂ of the ratio of characters, so that an effect reads "per doubling
of length" and does not depend on how long responses are in a set. Gold is held fixed because longer
responses may really be better: without it, a good judge on such a set would look biased.

Two fits of one model, judge = constant + effect · doublings + weight · gold (+1 a, −1 b, 0 tie):

- on log-odds, by least squares, where the judge gives numbers: right whatever the noise, as long as
  the noise does not go with length;
- on picks, by logistic regression (a tie is half a pick), for every judge. Noise that flips picks
  makes this effect smaller than the one in log-odds.

Intervals are Student's with G − 1 degrees of freedom for G prompts, from a covariance that allows
pairs of a prompt to depend on each other: by leaving out one prompt after the other for log-odds
(CR3, Bell & McCaffrey 2002), by the sandwich for picks (Liang & Zeger 1986), which is too narrow
below 30 prompts and left out there.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlaif.auditing.gold import Outcome
from rlaif.evaluation.intervals import Figure, Numbers, student_t
from rlaif.records import Choice

_GOLD = {Choice.A: 1.0, Choice.B: -1.0, Choice.TIE: 0.0}
_PICK = {Choice.A: 1.0, Choice.B: 0.0, Choice.TIE: 0.5}
_MOST_STEPS = 50
_CONVERGED = 1e-8
_SEPARATED = 15.0
"""Log-odds beyond this say that picks are perfectly explained, and the fit has no end."""

_FEWEST_PICKED = 30
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
    of_item, count = _numbered(kept)
    without = np.zeros((count, *bread.shape))
    np.add.at(without, of_item, -design[:, :, None] * design[:, None, :])
    if min(np.linalg.matrix_rank(bread + without)) < len(bread):
        return Figure(float(coefficients[_EFFECT]), None, None, len(kept), "none")
    summed = np.zeros((count, len(bread), 1))
    np.add.at(summed, of_item, scores[:, :, None])
    moved = np.linalg.solve(bread + without, summed)[:, _EFFECT, 0]
    variance = float(moved @ moved) * (count - 1) / count
    return _figure(coefficients, variance, kept, count)


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
            of_item, count = _numbered(kept)
            if count < _FEWEST_PICKED:
                return Figure(float(coefficients[_EFFECT]), None, None, len(kept), "none")
            summed = np.zeros((count, len(bread)))
            np.add.at(summed, of_item, design * (y - p)[:, None])
            moved = (summed @ np.linalg.inv(bread))[:, _EFFECT]
            return _figure(coefficients, float(moved @ moved), kept, count)
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


def _numbered(outcomes: Sequence[Outcome]) -> tuple[npt.NDArray[np.int64], int]:
    """The number of each outcome's prompt, and how many prompts there are."""
    clusters = np.asarray([outcome.cluster for outcome in outcomes], dtype=object)
    names, of_item = np.unique(clusters, return_inverse=True)
    return of_item, len(names)


def _figure(
    coefficients: Numbers, variance: float, outcomes: Sequence[Outcome], count: int
) -> Figure:
    half, value = student_t(count) * math.sqrt(variance), float(coefficients[_EFFECT])
    return Figure(value, value - half, value + half, len(outcomes), "sandwich")
