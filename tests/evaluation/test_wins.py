import math
import random

import pytest

from rlaif.evaluation.intervals import wilson
from rlaif.evaluation.wins import length_controlled, match_responses, measure_rule_wins
from tests.evaluation.factories import BRIEF, SHOUTS, group, rule

Table = dict[str, tuple[float | None, ...]]


def test_responses_are_matched_by_prompt_and_index() -> None:
    before = [group("p", "a", None, "c"), group("only-before", "x")]
    after = [group("p", "d", "e", "f g"), group("only-after", "y")]
    matches = list(match_responses(before, after))
    texts = [
        (m.before.text if m.before else None, m.after.text if m.after else None) for m in matches
    ]
    assert texts == [("a", "d"), (None, "e"), ("c", "f g")]
    assert [match.longer_by for match in matches] == [0.0, None, 1.0]


def test_keeping_more_of_the_weight_wins_and_equal_weight_is_half() -> None:
    heavy = rule("heavy", weight=2, must_not_match="x")
    matches = list(
        match_responses(
            [group("p", "a b c d x", "a", "a", None)], [group("p", "a b c d", "a x", "b", "a")]
        )
    )
    # brief weighs 1: only heavy is won; only heavy is lost; both keep both; one is missing
    (wins,) = measure_rule_wins(matches, [BRIEF, heavy])
    assert wins.values == {"p": (1.0, 0.0, 0.5, None)}


def test_without_rules_that_apply_there_are_no_rule_wins() -> None:
    matches = list(match_responses([group("p", "a")], [group("p", "b")]))
    assert measure_rule_wins(matches, []) == ()
    assert measure_rule_wins(matches, [rule("other", applies_to=["q"], max_words=1)]) == ()
    assert measure_rule_wins(matches, [SHOUTS])


def drawn(a: float, b: float, *, prompts: int = 150, each: int = 4) -> tuple[Table, Table]:
    """Matches whose winner is drawn from logit p = a + b·tanh(Δ / 20), Δ from N(15, 20²)."""
    draw = random.Random(8)
    preferences: Table = {}
    longer: Table = {}
    for prompt in range(prompts):
        row = tuple(draw.gauss(15, 20) for _ in range(each))
        longer[str(prompt)] = row
        preferences[str(prompt)] = tuple(
            float(draw.random() < 1 / (1 + math.exp(-(a + b * math.tanh(x / 20))))) for x in row
        )
    return preferences, longer


def test_the_rate_at_equal_length_finds_what_the_wins_were_drawn_from() -> None:
    preferences, longer = drawn(0.0, 2.0)
    raw = [value for row in preferences.values() for value in row if value is not None]
    interval = length_controlled(preferences, longer, seed=0, resamples=400)
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    assert sum(raw) / len(raw) > 0.6
    assert interval.value == pytest.approx(0.5, abs=0.05)
    assert interval.low < 0.5 < interval.high


def test_without_differences_in_length_it_is_the_plain_mean() -> None:
    preferences: Table = {"a": (1.0, 0.0), "b": (1.0, 0.7)}
    longer: Table = {"a": (5.0, 5.0), "b": (5.0, 5.0)}
    interval = length_controlled(preferences, longer, seed=0, resamples=50)
    assert interval is not None
    assert interval.value == pytest.approx((0.5 + 0.85) / 2, abs=1e-5)


def test_two_lengths_are_solved_by_hand() -> None:
    # Δ = ±1, so tanh(Δ/s) = ±tanh(1): logits a ± b·t equal logit .8 and logit .4, and a is their
    # mean: (1.386294 - 0.405465) / 2 = 0.490415, σ(a) = 0.620204.
    preferences: Table = {str(i): (0.8, 0.4) for i in range(4)}
    longer: Table = {str(i): (1.0, -1.0) for i in range(4)}
    interval = length_controlled(preferences, longer, seed=0, resamples=50)
    assert interval is not None
    assert interval.value == pytest.approx(0.620204, abs=1e-4)


def test_always_winning_is_not_certain() -> None:
    preferences: Table = {str(i): (1.0,) for i in range(12)}
    longer: Table = {str(i): (float(i),) for i in range(12)}
    interval = length_controlled(preferences, longer, seed=0)
    assert interval is not None
    assert (interval.low, interval.high) == wilson(12, 12)


def test_undecided_matches_are_left_out_and_nothing_decided_gives_no_number() -> None:
    assert length_controlled({"a": (None, 1.0)}, {"a": (3.0, None)}, seed=0) is None
    interval = length_controlled({"a": (None, 1.0, 0.0)}, {"a": (3.0, 0.0, 0.0)}, seed=0)
    assert interval is not None
    assert interval.value == pytest.approx(0.5)
    assert interval.low is None


def test_perfect_separation_by_length_stays_finite() -> None:
    draw = random.Random(3)
    longer: Table = {str(i): (draw.gauss(0, 5),) for i in range(40)}
    preferences: Table = {key: (float((row[0] or 0) > 0),) for key, row in longer.items()}
    interval = length_controlled(preferences, longer, seed=0, resamples=100)
    assert interval is not None
    assert 0 < interval.value < 1
