"""Wins: how often a model's response is preferred to the baseline's, and at equal length.

Responses are paired by prompt and index, so both were drawn with the same seed. A preference is
the probability in [0, 1] that the model's response is better; the win rate is its mean, 0.5 when
nothing sets the two apart.

Length-controlled win rate, after Dubois et al. 2024 (arXiv 2404.04475), in its small form:
logit p = a + b·tanh(Δ / s), where Δ is the difference in words and s its standard deviation; the
rate is σ(a), the win rate predicted at Δ = 0. Deviations: no term per prompt (it needs many models
on the same prompts), no cross-validated penalty but a fixed tiny one that keeps a finite.

What it cannot tell: who is right when the judge is not. Where a model is shorter (or longer) than
the baseline on nearly every prompt, the rate at equal length is an extrapolation.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlaif.constitution import Principle
from rlaif.constitution.rules import check_rule, split_words
from rlaif.evaluation.intervals import RESAMPLES, Figure, percentiles, resample, wilson
from rlaif.evaluation.measure import Group, Measure, Measured
from rlaif.evaluation.rules import applying_rules
from rlaif.records import Prompt, Response

RULE_WINS = Measure(
    "wins/rules",
    "probability that the response keeps more of the rules' weight than the baseline's",
    better="higher",
    kind="share",
    cannot_tell="by how much; equal ones count half",
    even=0.5,
)

_PENALTY = 1e-6  # on a² and b², per unit of weight: keeps the fit finite when one side always wins
_STEPS = 30

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Match:
    """Two responses to one prompt, drawn with the same seed."""

    prompt: Prompt
    index: int
    before: Response | None
    """The baseline's; None when its sample failed or the server refused it."""

    after: Response | None
    """The model's; None likewise."""

    @property
    def longer_by(self) -> float | None:
        """Words of the model's response more than the baseline's; None when either failed."""
        if self.before is None or self.after is None:
            return None
        return float(len(split_words(self.after.text)) - len(split_words(self.before.text)))


def match_responses(before: Sequence[Group], after: Sequence[Group]) -> Iterator[Match]:
    """Yield the responses of two models to the same prompts, by prompt and index."""
    theirs = {group.prompt.id: group for group in before}
    for group in after:
        other = theirs.get(group.prompt.id)
        if other is None:
            continue
        first = {response.index: response for response in other.own()}
        second = {response.index: response for response in group.own()}
        for index in range(min(other.asked, group.asked)):
            yield Match(group.prompt, index, first.get(index), second.get(index))


def measure_rule_wins(
    matches: Sequence[Match], principles: Sequence[Principle]
) -> tuple[Measured, ...]:
    """Compare every two responses by the weight of the rules each keeps; nothing without rules."""
    values: dict[str, list[float | None]] = {}
    for match in matches:
        rules = applying_rules(principles, match.prompt)
        if not rules:
            continue
        row = values.setdefault(match.prompt.id, [])
        if match.before is None or match.after is None:
            row.append(None)
            continue
        kept_before, kept_after = _kept(match.before, rules), _kept(match.after, rules)
        row.append(0.5 if kept_before == kept_after else float(kept_after > kept_before))
    if not values:
        return ()
    return (Measured(RULE_WINS, {key: tuple(row) for key, row in values.items()}),)


def _kept(response: Response, rules: Sequence[Principle]) -> float:
    return math.fsum(
        p.weight for p in rules if p.rule is not None and check_rule(p.rule, response.text)
    )


def length_controlled(
    preferences: Mapping[str, Sequence[float | None]],
    longer_by: Mapping[str, Sequence[float | None]],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Figure | None:
    """Return the win rate predicted at equal length, with its 95 % interval over prompts.

    Args:
        preferences: Prompt id to the preferences of its matches.
        longer_by: Prompt id to the differences in words, in the same order.
        seed: For the resamples.
        resamples: How many.

    Returns:
        None when no match has both a preference and a length; without ends for a single prompt.
    """
    ids, prompt_of, preference, difference = _columns(preferences, longer_by)
    if not ids:
        return None
    always = float(preference[0])
    if always in (0.0, 1.0) and (preference == always).all():
        return Figure(always, *wilson(always * len(ids), len(ids)), len(ids), "wilson")
    spread = float(np.std(difference))
    length = np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)
    # Every prompt weighs the same, however many of its matches were decided.
    weight = 1.0 / np.bincount(prompt_of)[prompt_of]
    estimate = float(_rate_at_equal_length(preference, length, weight[None, :])[0])
    if len(ids) == 1:
        return Figure(estimate, None, None, 1, "none")
    rates = []
    for places in resample(ids, seed=seed, resamples=resamples):
        drawn = np.stack([np.bincount(row, minlength=len(ids)) for row in places])
        rates.append(_rate_at_equal_length(preference, length, drawn[:, prompt_of] * weight))
    low, high = percentiles(np.concatenate(rates), clusters=len(ids))
    return Figure(estimate, low, high, len(ids), "bootstrap")


def _columns(
    preferences: Mapping[str, Sequence[float | None]],
    longer_by: Mapping[str, Sequence[float | None]],
) -> tuple[list[str], npt.NDArray[np.intp], Floats, Floats]:
    rows = [
        (prompt_id, preference, difference)
        for prompt_id in sorted(preferences)
        for preference, difference in zip(preferences[prompt_id], longer_by[prompt_id], strict=True)
        if preference is not None and difference is not None
    ]
    ids = sorted({prompt_id for prompt_id, _, _ in rows})
    place = {prompt_id: number for number, prompt_id in enumerate(ids)}
    return (
        ids,
        np.array([place[prompt_id] for prompt_id, _, _ in rows], dtype=np.intp),
        np.array([preference for _, preference, _ in rows], dtype=np.float64),
        np.array([difference for _, _, difference in rows], dtype=np.float64),
    )


def _rate_at_equal_length(preference_M: Floats, length_M: Floats, weights_RM: Floats) -> Floats:
    """Fit logit p = a + b·length by Newton's method, once per row of weights; return σ(a).

    M matches, R rows of weights. Preferences may be any probability, not only 0 and 1.
    """
    rows = weights_RM.shape[0]
    a_R, b_R = np.zeros(rows), np.zeros(rows)
    penalty_R = _PENALTY * weights_RM.sum(axis=1)
    for _ in range(_STEPS):
        rate_RM = _sigmoid(a_R[:, None] + b_R[:, None] * length_M)
        error_RM = weights_RM * (rate_RM - preference_M)
        curve_RM = weights_RM * rate_RM * (1 - rate_RM)
        slope_a = error_RM.sum(axis=1) + penalty_R * a_R
        slope_b = error_RM @ length_M + penalty_R * b_R
        aa = curve_RM.sum(axis=1) + penalty_R
        ab = curve_RM @ length_M
        bb = curve_RM @ (length_M * length_M) + penalty_R
        scale = aa * bb - ab * ab
        # Steps are cut to ±2: far from the solution a full Newton step can overshoot for ever.
        step_a = np.clip((bb * slope_a - ab * slope_b) / scale, -2, 2)
        step_b = np.clip((aa * slope_b - ab * slope_a) / scale, -2, 2)
        a_R, b_R = a_R - step_a, b_R - step_b
        if max(np.abs(step_a).max(), np.abs(step_b).max()) < 1e-10:
            break
    return _sigmoid(a_R)


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -60, 60)))
