import math
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from rlaif.constitution import HowMany, Principle, choose_principles
from tests.constitution.factories import principle

IDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)
SEEDS = st.integers(0, 2**31 - 1)
SUBJECTS = st.text(max_size=8)
WEIGHTS = st.floats(0.01, 100)
COUNTS = st.integers(1, 9)


@st.composite
def principles(draw) -> list[Principle]:
    return [principle(id, weight=draw(WEIGHTS)) for id in draw(IDS)]


def ids(chosen: tuple[Principle, ...]) -> tuple[str, ...]:
    return tuple(p.id for p in chosen)


@given(principles(), COUNTS, SEEDS, SUBJECTS)
def test_rewording_never_changes_a_draw(these, count, seed, subject):
    reworded = [p.model_copy(update={"statement": "Other words."}) for p in these]
    first = choose_principles(these, how_many=count, seed=seed, subject=subject)
    second = choose_principles(reworded, how_many=count, seed=seed, subject=subject)
    assert ids(first) == ids(second)


@given(principles(), WEIGHTS, COUNTS, SEEDS, SUBJECTS)
def test_an_added_principle_changes_only_the_draws_it_wins(these, weight, count, seed, subject):
    new = principle("new", weight=weight)
    before = choose_principles(these, how_many=count, seed=seed, subject=subject)
    after = choose_principles([new, *these], how_many=count, seed=seed, subject=subject)
    if "new" not in ids(after):
        assert after == before
    else:
        others = set(ids(after)) - {"new"}
        assert others <= set(ids(before))
        assert len(others) >= min(count, len(these)) - 1


@given(principles(), COUNTS, SEEDS, SUBJECTS, st.randoms(use_true_random=False))
def test_the_order_of_the_list_does_not_decide(these, count, seed, subject, random):
    shuffled = random.sample(these, len(these))
    first = choose_principles(these, how_many=count, seed=seed, subject=subject)
    second = choose_principles(shuffled, how_many=count, seed=seed, subject=subject)
    assert set(ids(first)) == set(ids(second))
    assert ids(second) == tuple(p.id for p in shuffled if p.id in ids(first))


@given(principles(), SEEDS, SUBJECTS, st.floats(0.1, 10))
def test_only_relative_weights_count(these, seed, subject, factor):
    scaled = [p.model_copy(update={"weight": p.weight * factor}) for p in these]
    first = choose_principles(these, how_many="one", seed=seed, subject=subject)
    assert ids(first) == ids(choose_principles(scaled, how_many="one", seed=seed, subject=subject))


@given(principles(), SEEDS, SUBJECTS)
def test_a_number_beyond_what_is_there_gives_every_candidate(these, seed, subject):
    everything = choose_principles(these, how_many="all", seed=seed, subject=subject)
    assert everything == tuple(these)
    assert choose_principles(these, how_many=99, seed=seed, subject=subject) == everything


def test_the_frequency_follows_the_weights():
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    these = [principle(id, weight=weight) for id, weight in weights.items()]
    draws = 10_000
    counts = Counter(
        choose_principles(these, how_many="one", seed=7, subject=str(i))[0].id for i in range(draws)
    )
    for id, weight in weights.items():
        share = weight / 8
        deviation = math.sqrt(share * (1 - share) / draws)
        assert abs(counts[id] / draws - share) < 4 * deviation


def test_the_second_of_two_draws_follows_the_weights_that_are_left():
    # P(a is not among two of three) = P(last is a): with weights 1, 1, 2 by hand
    # P(c, b) + P(b, c) = 2/4 * 1/2 + 1/4 * 2/3 = 5/12.
    these = [principle("a"), principle("b"), principle("c", weight=2.0)]
    draws = 10_000
    without = sum(
        "a" not in ids(choose_principles(these, how_many=2, seed=3, subject=str(i)))
        for i in range(draws)
    )
    assert abs(without / draws - 5 / 12) < 4 * math.sqrt(5 / 12 * 7 / 12 / draws)


@pytest.mark.parametrize("count", ["one", "all", 1, 5])
def test_weight_zero_is_never_drawn(count: HowMany):
    these = [principle("never", weight=0), principle("here")]
    chosen = choose_principles(these, how_many=count, seed=0, subject="x")
    assert ids(chosen) == ("here",)
    assert choose_principles(these[:1], how_many=count, seed=0, subject="x") == ()


@given(principles(), SEEDS, SUBJECTS)
def test_the_word_one_and_the_number_draw_the_same(these, seed, subject):
    one = choose_principles(these, how_many="one", seed=seed, subject=subject)
    assert one == choose_principles(these, how_many=1, seed=seed, subject=subject)
