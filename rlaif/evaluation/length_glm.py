"""Length-controlled win rate in the form of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475).

logit p = a + b·tanh(Δ / s) + c·d: a the model, Δ the difference in words and s its standard
deviation, d the difficulty of the prompt. The rate is the mean over prompts of the prediction at
Δ = 0. Preferences may be any probability, as AlpacaEval's doubled weighted rows allow.

Of our rates only this one has the terms of published length-controlled win rates; it is comparable
with them only on the same prompts, baseline and judge.

Deviations: words in place of tokens; difficulty is the log-odds of what the *other* models of the
evaluation won on the prompt, one win and one loss added, where AlpacaEval takes it from a fit over
its leaderboard; the penalty on b and c is quadratic (L2, not L1), its strength chosen by the
held-out log-loss of five folds of prompts; no term against gamed baselines.

What it cannot tell: who is right when the judge is not; much where one model is longer on nearly
every prompt. With few other models, difficulty is mostly noise, and the penalty takes it out.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rlaif.evaluation.intervals import Figure, percentiles, prompt_means, resample, wilson

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Weights of ½(b² + c²) that are tried, per prompt."""

RESAMPLES = 400
_FOLDS = 5
_STEPS = 50
_INTERCEPT = 1e-6  # keeps a finite when one side always wins

Floats = npt.NDArray[np.float64]


def rate_difficulty(others: Sequence[Mapping[str, Sequence[float | None]]]) -> dict[str, float]:
    """Return how easily other models win on each prompt: centred log-odds; higher is easier."""
    means = [prompt_means(preferences) for preferences in others]
    odds = {}
    for key in sorted(set().union(*means)):
        wins = [row[key] for row in means if key in row]
        odds[key] = math.log((math.fsum(wins) + 1) / (len(wins) - math.fsum(wins) + 1))
    middle = math.fsum(odds.values()) / len(odds) if odds else 0.0
    return {key: value - middle for key, value in odds.items()}


def length_controlled_glm(
    preferences: Mapping[str, Sequence[float | None]],
    longer_by: Mapping[str, Sequence[float | None]],
    difficulty: Mapping[str, float],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Figure | None:
    """Return the win rate at equal length, with its 95 % bootstrap interval over prompts.

    Args:
        preferences: Prompt id to the preferences of its matches.
        longer_by: Prompt id to the differences in words, in the same order.
        difficulty: As `rate_difficulty` gives it; prompts without one are left out.
        seed: For the resamples.
        resamples: How many.

    Returns:
        None when no match has a preference, a length and a difficulty.
    """
    rows = [
        (key, preference, difference)
        for key in sorted(preferences.keys() & difficulty.keys())
        for preference, difference in zip(preferences[key], longer_by[key], strict=True)
        if preference is not None and difference is not None
    ]
    if not rows:
        return None
    ids = sorted({key for key, _, _ in rows})
    place = {key: number for number, key in enumerate(ids)}
    prompt = np.array([place[key] for key, _, _ in rows])
    won = np.array([preference for _, preference, _ in rows])
    length = np.array([difference for _, _, difference in rows])
    if won.min() == won.max() and won[0] in (0.0, 1.0):
        return Figure(
            float(won[0]), *wilson(float(won[0]) * len(ids), len(ids)), len(ids), "wilson"
        )
    spread = float(np.std(length))
    terms = np.column_stack(
        [
            np.ones(len(rows)),
            np.tanh(length / spread) if spread > 0 else np.zeros(len(rows)),
            [difficulty[key] for key, _, _ in rows],
        ]
    )
    weight = 1.0 / np.bincount(prompt)[prompt]
    hardness = np.array([difficulty[key] for key in ids])
    penalty = choose_penalty(terms, won, weight, prompt)
    value = _at_zero(_fit(terms, won, weight, penalty), hardness, np.ones(len(ids)))
    if len(ids) == 1:
        return Figure(value, None, None, 1, "none")
    rates = []
    for places in resample(ids, seed=seed, resamples=resamples):
        for drawn in places:
            times = np.bincount(drawn, minlength=len(ids)).astype(np.float64)
            rates.append(
                _at_zero(_fit(terms, won, weight * times[prompt], penalty), hardness, times)
            )
    return Figure(value, *percentiles(np.array(rates)), len(ids), "bootstrap")


def choose_penalty(
    terms: Floats, won: Floats, weight: Floats, prompt: npt.NDArray[np.intp]
) -> float:
    """Return the penalty with the least held-out log-loss; all matches of a prompt in one fold."""
    fold = prompt % _FOLDS

    def loss(penalty: float) -> float:
        total = 0.0
        for number in range(_FOLDS):
            inside, outside = fold != number, fold == number
            if not inside.any() or not outside.any():
                continue
            fitted = _fit(terms[inside], won[inside], weight[inside], penalty)
            logit = terms[outside] @ fitted
            total += float(weight[outside] @ (np.logaddexp(0, logit) - won[outside] * logit))
        return total

    return min(PENALTIES, key=loss)


def _fit(terms: Floats, won: Floats, weight: Floats, penalty: float) -> Floats:
    """Newton's method; steps are cut to ±2, as far from the solution a full one can overshoot."""
    ridge = np.array([_INTERCEPT, penalty, penalty]) * weight.sum()
    points = np.zeros(terms.shape[1])
    for _ in range(_STEPS):
        chance = _sigmoid(terms @ points)
        slope = terms.T @ (weight * (chance - won)) + ridge * points
        curve = (terms.T * (weight * chance * (1 - chance))) @ terms + np.diag(ridge)
        step = np.clip(np.linalg.solve(curve, slope), -2, 2)
        points -= step
        if np.abs(step).max() < 1e-8:
            break
    return points


def _at_zero(points: Floats, hardness: Floats, times: Floats) -> float:
    return float(np.average(_sigmoid(points[0] + points[2] * hardness), weights=times))


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -60, 60)))
