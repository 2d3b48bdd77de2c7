import math
from itertools import combinations

import evalica
import pytest
from hypothesis import given, strategies as st

from rlaif.judging import fit_strengths, preference_of, refit_judgments, sigmoid
from rlaif.records import Judgment


def judgment(first: str, second: str, preference: float | None) -> Judgment:
    return Judgment(first, second, preference, preference, (), None, None, 0, ())


def test_judgments_that_fit_strengths_give_them_back() -> None:
    # θ = (1, 0, −1): σ(1), σ(1) and σ(2) contradict nothing.
    group = [
        judgment("a", "b", sigmoid(1.0)),
        judgment("b", "c", sigmoid(1.0)),
        judgment("a", "c", sigmoid(2.0)),
    ]
    strengths = fit_strengths(group, prior=1e-9)
    assert strengths == pytest.approx({"a": 1.0, "b": 0.0, "c": -1.0}, abs=1e-6)


def test_a_contradiction_evens_out_as_worked_by_hand() -> None:
    # σ(1) for a over b and for b over c, but ½ for a against c. By symmetry θ = (t, 0, −t), and the
    # slope at a vanishes: [σ(1) − σ(t)] + [½ − σ(2t)] = 0, so σ(t) + σ(2t) = 1.2310586.
    # t = 0.3157: 0.578276 + 0.652820 = 1.231096; t = 0.3156: 0.578252 + 0.652775 = 1.231027.
    group = [
        judgment("a", "b", sigmoid(1.0)),
        judgment("b", "c", sigmoid(1.0)),
        judgment("c", "a", 0.5),
    ]
    strengths = fit_strengths(group, prior=1e-9)
    assert strengths["a"] == pytest.approx(0.31565, abs=5e-5)
    assert strengths["b"] == pytest.approx(0.0, abs=1e-6)
    ab, _, ca = refit_judgments(group)
    assert ab.preference == pytest.approx(sigmoid(0.31565), abs=1e-3)
    assert ca.preference == pytest.approx(sigmoid(-0.6313), abs=1e-3)
    assert ab.raw_preference == sigmoid(1.0)
    assert ab.transforms == ("bradley-terry(prior=0.001)",)


def test_a_perfect_circle_leaves_all_even() -> None:
    group = [judgment("a", "b", 0.9), judgment("b", "c", 0.9), judgment("c", "a", 0.9)]
    assert fit_strengths(group) == pytest.approx({"a": 0.0, "b": 0.0, "c": 0.0})


def test_certainties_stay_finite() -> None:
    group = [judgment("a", "b", 1.0), judgment("a", "c", 1.0), judgment("b", "c", 1.0)]
    strengths = fit_strengths(group)
    assert strengths["a"] > strengths["b"] > strengths["c"]
    assert all(math.isfinite(value) for value in strengths.values())
    assert 0.98 < preference_of(strengths, "a", "c") < 1.0


def test_strengths_speak_about_responses_that_never_met() -> None:
    strengths = fit_strengths([judgment("a", "b", 0.8), judgment("b", "c", 0.8)], prior=1e-9)
    # log-odds add up: 2 · ln 4
    assert preference_of(strengths, "a", "c") == pytest.approx(16 / 17, abs=1e-4)


def test_what_has_no_preference_neither_counts_nor_gets_one() -> None:
    unknown = judgment("a", "c", None)
    known = judgment("a", "b", 0.9)
    refitted = refit_judgments([known, unknown])
    assert refitted[1] is unknown
    assert refitted[0].preference == pytest.approx(0.9, abs=1.1e-3)
    assert fit_strengths([unknown]) == {}


@given(st.lists(st.floats(0.02, 0.98), min_size=6, max_size=6), st.randoms())
def test_the_order_of_judgments_means_nothing(preferences: list[float], random: object) -> None:
    couples = list(combinations("abcd", 2))
    group = [judgment(*couple, p) for couple, p in zip(couples, preferences, strict=True)]
    turned = [
        judgment(j.second_id, j.first_id, 1.0 - (j.preference or 0.0)) for j in reversed(group)
    ]
    assert fit_strengths(group) == pytest.approx(fit_strengths(turned), abs=1e-6)


@given(st.lists(st.floats(0.0, 1.0), min_size=10, max_size=10))
def test_the_slope_vanishes_at_the_fit(preferences: list[float]) -> None:
    couples = list(combinations("abcde", 2))
    group = [judgment(*couple, p) for couple, p in zip(couples, preferences, strict=True)]
    prior = 1e-3
    strengths = fit_strengths(group, prior=prior)
    for one, strength in strengths.items():
        slope = -prior * strength
        for j in group:
            if one in (j.first_id, j.second_id):
                gap = (j.preference or 0.0) - preference_of(strengths, j.first_id, j.second_id)
                slope += gap if one == j.first_id else -gap
        assert slope == pytest.approx(0.0, abs=1e-8)


def test_a_reference_library_finds_the_same_strengths() -> None:
    wins = {
        ("a", "b"): 7,
        ("b", "a"): 3,
        ("b", "c"): 6,
        ("c", "b"): 4,
        ("a", "c"): 8,
        ("c", "a"): 2,
    }
    rows = [pair for pair, count in wins.items() for _ in range(count)]
    result = evalica.bradley_terry(
        [x for x, _ in rows], [y for _, y in rows], [evalica.Winner.X] * len(rows), tolerance=1e-12
    )
    theirs = result.scores
    ours = fit_strengths(
        [judgment("a", "b", 0.7), judgment("b", "c", 0.6), judgment("a", "c", 0.8)], prior=1e-9
    )
    for one, other in combinations("abc", 2):
        odds = theirs[one] / theirs[other]
        assert preference_of(ours, one, other) == pytest.approx(odds / (1 + odds), abs=1e-4)
