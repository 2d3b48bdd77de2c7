"""Drawing a few principles aims at the label of all of them, whatever their weights."""

from collections.abc import Sequence
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings, strategies as st

from rlaif.constitution import Principle, choose_principles
from rlaif.judging import weigh_principles
from rlaif.judging.weights import first_shares


def principles(*weights: float) -> list[Principle]:
    return [Principle(id=f"p{n}", statement="x", weight=w) for n, w in enumerate(weights)]


def probability_of(order: Sequence[float], total: float) -> float:
    """That weighted draws without replacement come in this order."""
    found = 1.0
    for weight in order:
        found *= weight / total
        total -= weight
    return found


def expected(weights: Sequence[float], values: Sequence[float], k: int, silent: set[int]) -> float:
    """The mean label over all draws of k in which one speaks, by enumeration."""
    these = principles(*weights)
    total = spoken = 0.0
    for order in permutations(range(len(weights)), k):
        loud = [n for n in order if n not in silent]
        if not loud:
            continue
        likely = probability_of([weights[n] for n in order], sum(weights))
        drawn = [these[n] for n in sorted(order)]
        own = weigh_principles(drawn, these, [f"p{n}" for n in loud])
        mass = sum(own[f"p{n}"] for n in loud)
        total += likely * sum(own[f"p{n}"] * values[n] for n in loud) / mass
        spoken += likely
    return total / spoken


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_label_of_ten_one_one_is_unbiased_for_every_number_of_draws(k: int) -> None:
    # Target: (10 · .9 + .2 + .2)/12 = .78333; the plain mean of two drawn would give .544.
    found = expected([10.0, 1.0, 1.0], [0.9, 0.2, 0.2], k, set())
    assert found == pytest.approx(9.4 / 12, abs=1e-12)


WEIGHTS, VALUES = [5.0, 0.3, 1.0, 2.0, 1.0], [0.9, 0.1, 0.6, 0.35, 0.2]


@pytest.mark.parametrize("k", range(1, 6))
@pytest.mark.parametrize("silent", [set(), {0}, {2}, {1, 3}, {0, 2, 4}])
def test_it_is_unbiased_for_those_that_speak_when_others_abstain(k: int, silent: set[int]) -> None:
    loud = [n for n in range(5) if n not in silent]
    target = sum(WEIGHTS[n] * VALUES[n] for n in loud) / sum(WEIGHTS[n] for n in loud)
    assert expected(WEIGHTS, VALUES, k, silent) == pytest.approx(target, abs=1e-10)


def test_two_drawn_of_three_by_hand() -> None:
    # Drawn: 10 and 1 of (10, 1, 1). P(10 then 1) = 10/12 · 1/2; P(1 then 10) = 1/12 · 10/11.
    first, second = 10 / 24, 10 / 132
    heavy, light, _ = principles(10.0, 1.0, 1.0)
    own = weigh_principles([heavy, light], principles(10.0, 1.0, 1.0))
    assert own["p0"] == pytest.approx(12 * first / (first + second), abs=1e-9)
    assert sum(own.values()) == pytest.approx(12.0)


def brute_force(loud: Sequence[float], silent: Sequence[float], rest: float) -> list[float]:
    every = [*loud, *silent]
    total = sum(every) + rest
    first = [0.0] * len(loud)
    for order in permutations(range(len(every))):
        earliest = next(n for n in order if n < len(loud))
        first[earliest] += probability_of([every[n] for n in order], total)
    return [one / sum(first) for one in first]


RATES = st.floats(1e-3, 1e3)


@given(st.lists(RATES, min_size=1, max_size=4), st.lists(RATES, max_size=2), RATES)
@settings(max_examples=60, deadline=None)
def test_shares_are_those_of_enumerating_every_order(
    loud: list[float], silent: list[float], rest: float
) -> None:
    found = first_shares(tuple(loud), tuple(silent), rest)
    assert found == pytest.approx(brute_force(loud, silent, rest), rel=1e-9, abs=1e-12)


def test_equal_weights_share_equally_and_thirty_draws_take_no_time() -> None:
    these = principles(*[2.0] * 4)
    assert weigh_principles(these[:3], these, ["p0"]) == dict.fromkeys(("p0", "p1", "p2"), 8 / 3)
    many = principles(*[1.0 + n / 7 for n in range(31)])
    own = weigh_principles(many[:30], many, [f"p{n}" for n in range(0, 30, 2)])
    assert sum(own.values()) == pytest.approx(sum(one.weight for one in many))


def test_the_race_draws_what_the_shares_assume() -> None:
    these, k, draws = principles(10.0, 1.0, 1.0, 3.0), 2, 4000
    counts = dict.fromkeys(combinations(range(4), k), 0)
    for n in range(draws):
        drawn = choose_principles(these, how_many=k, seed=1, subject=str(n))
        counts[tuple(int(one.id[1:]) for one in drawn)] += 1
    for some, count in counts.items():
        weights = [these[n].weight for n in some]
        likely = sum(probability_of(order, 15.0) for order in permutations(weights))
        error = (likely * (1 - likely) / draws) ** 0.5
        assert abs(count / draws - likely) < 4 * error


def test_one_drawn_weighs_what_all_candidates_do_and_all_drawn_weigh_their_own() -> None:
    these = principles(1.0, 2.0, 5.0)
    assert weigh_principles(these, these) == {"p0": 1.0, "p1": 2.0, "p2": 5.0}
    assert weigh_principles(these[:1], these) == {"p0": 8.0}
    assert weigh_principles([], these) == {}


def test_a_principle_of_weight_zero_changes_no_weight() -> None:
    heavy, light, none = principles(3.0, 1.0, 0.0)
    assert weigh_principles([heavy, light], [heavy, light, none]) == {"p0": 3.0, "p1": 1.0}
    assert weigh_principles([heavy], [heavy, light, none]) == {"p0": 4.0}
