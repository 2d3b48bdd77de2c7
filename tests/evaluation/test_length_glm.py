import math

import numpy as np
import pytest

from rlaif.evaluation.length_glm import length_controlled_glm, rate_difficulty

Table = dict[str, tuple[float | None, ...]]


def planted(
    quality: float, length: float, *, seed: int, soft: bool = False
) -> tuple[Table, Table, dict[str, float], float]:
    """120 prompts × 3 matches from logit p = quality + length·tanh(Δ/20) + d; the rate at Δ = 0."""
    draw = np.random.default_rng(seed)
    difficulty = {f"p{i:03}": float(d) for i, d in enumerate(draw.normal(0, 1, 120))}
    middle = sum(difficulty.values()) / 120
    difficulty = {key: d - middle for key, d in difficulty.items()}
    preferences: Table = {}
    longer: Table = {}
    for key, d in difficulty.items():
        differences = draw.normal(15, 20, 3)
        chance = 1 / (1 + np.exp(-(quality + length * np.tanh(differences / 20) + d)))
        drawn = chance if soft else (draw.random(3) < chance).astype(float)
        preferences[key] = tuple(map(float, drawn))
        longer[key] = tuple(map(float, differences))
    true = float(np.mean([1 / (1 + math.exp(-(quality + d))) for d in difficulty.values()]))
    return preferences, longer, difficulty, true


def test_a_planted_quality_is_found_under_a_planted_length_effect() -> None:
    for quality in (0.0, 0.8):
        preferences, longer, difficulty, true = planted(quality, 1.5, seed=3)
        figure = length_controlled_glm(preferences, longer, difficulty, seed=0, resamples=200)
        won = [value for row in preferences.values() for value in row if value is not None]
        raw = sum(won) / len(won)
        assert figure is not None
        assert figure.holds(true)
        assert abs(figure.value - true) < 0.06 < raw - true


def test_soft_labels_are_fitted_as_probabilities() -> None:
    preferences, longer, difficulty, true = planted(0.4, 1.5, seed=5, soft=True)
    figure = length_controlled_glm(preferences, longer, difficulty, seed=0, resamples=50)
    assert figure is not None
    assert figure.value == pytest.approx(true, abs=0.01)


def test_the_interval_covers_the_planted_rate() -> None:
    covered = 0
    for seed in range(40):
        preferences, longer, difficulty, true = planted(0.3, 1.0, seed=seed)
        figure = length_controlled_glm(preferences, longer, difficulty, seed=seed, resamples=100)
        assert figure is not None
        covered += figure.holds(true)
    assert covered >= 34  # .95 of 40 is 38; fewer than 34 has a chance below .02


def test_difficulty_is_the_centred_log_odds_of_the_others_wins() -> None:
    # two models: both win on a (3/1), both lose on b (1/3): ±log 3; they split on c: 0
    others: list[Table] = [
        {"a": (1.0,), "b": (0.0,), "c": (1.0,)},
        {"a": (1.0,), "b": (0.0,), "c": (0.0,)},
    ]
    expected = {"a": math.log(3), "b": -math.log(3), "c": 0.0}
    assert rate_difficulty(others) == pytest.approx(expected)
    assert rate_difficulty([{"a": (None,)}]) == {}


def test_always_winning_is_not_certain_and_nothing_judged_is_no_number() -> None:
    won: Table = {str(i): (1.0,) for i in range(12)}
    longer: Table = {str(i): (float(i),) for i in range(12)}
    figure = length_controlled_glm(won, longer, dict.fromkeys(won, 0.0), seed=0)
    assert figure is not None
    assert figure.method == "wilson"
    assert length_controlled_glm(won, longer, {}, seed=0) is None
    assert length_controlled_glm({"a": (None,)}, {"a": (1.0,)}, {"a": 0.0}, seed=0) is None
