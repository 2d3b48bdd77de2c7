import numpy as np
import pytest

from rlaif.evaluation.differences import (
    adjust_bh,
    adjust_holm,
    compare_models,
    detectable_difference,
    explain_power,
    sign_flip_values,
)
from rlaif.evaluation.measure import Measure, Measured

SHARE = Measure("good", "", better="higher", kind="share", cannot_tell="")
RATES = {"base": 0.1, "a": 0.3, "b": 0.6}
WINS = Measure("wins/judges", "", better="higher", kind="share", cannot_tell="", even=0.5)


def test_holm_is_what_is_worked_by_hand() -> None:
    # sorted .01, .02, .03, .04 times 4, 3, 2, 1: .04, .06, .06, .04; never falling, so .06
    assert adjust_holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert adjust_holm([0.6, 0.7]) == [1.0, 1.0]
    assert adjust_holm([]) == []


def test_benjamini_hochberg_is_what_is_worked_by_hand() -> None:
    # sorted .01, .02, .03, .04 times 4/1, 4/2, 4/3, 4/4: .04, .04, .04, .04
    assert adjust_bh([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.04] * 4)
    # .001·3 = .003; .5·3/2 = .75, not above the next, .6·3/3 = .6
    assert adjust_bh([0.5, 0.001, 0.6]) == pytest.approx([0.6, 0.003, 0.6])
    assert adjust_bh([]) == []


def test_the_correction_that_was_chosen_adjusts_all_differences() -> None:
    measured = {m: [Measured(SHARE, values(r, seed=i))] for i, (m, r) in enumerate(RATES.items())}
    slices = {"all": frozenset(map(str, range(40)))}
    holm, bh = (
        compare_models(measured, {}, slices, baseline="base", seed=0, correction=one)
        for one in ("holm", "bh")
    )
    assert [one.p for one in holm] == [one.p for one in bh]
    assert [one.adjusted for one in bh] == adjust_bh([one.p for one in bh])
    assert [one.adjusted for one in holm] == adjust_holm([one.p for one in holm])
    assert [one.adjusted for one in holm] != [one.adjusted for one in bh]


def test_sign_flips_are_the_exact_test_of_mcnemar() -> None:
    # 8 prompts better, 0 worse, any number alike: 2 / 2^8 = .0078
    (p,) = sign_flip_values([{str(i): float(i < 8) for i in range(30)}], seed=1)
    assert p == pytest.approx(2 / 2**8, abs=0.003)
    (alike,) = sign_flip_values([dict.fromkeys("abc", 0.0)], seed=1)
    assert alike == 1.0


def test_holm_keeps_the_chance_of_any_false_difference_below_five_per_cent() -> None:
    draw = np.random.default_rng(2)
    false = 0
    for repeat in range(200):
        table = draw.normal(size=(20, 8))
        table[:, 4:] += table[:, :4]  # measures of the same responses are not independent
        columns = [dict(zip(map(str, range(20)), column, strict=True)) for column in table.T]
        values = sign_flip_values(columns, seed=repeat)
        false += min(adjust_holm(values)) < 0.05
    assert false / 200 <= 0.085  # .05 and two standard errors of 200 repeats


def values(rate: float, *, prompts: int = 40, seed: int = 0) -> dict[str, tuple[float | None, ...]]:
    draw = np.random.default_rng(seed)
    return {str(i): (float(draw.random() < rate),) for i in range(prompts)}


def test_all_pairs_are_compared_and_win_rates_are_held_against_one_half() -> None:
    rates = {"base": 0.1, "a": 0.15, "b": 0.9}
    measured = {m: [Measured(SHARE, values(r, seed=i))] for i, (m, r) in enumerate(rates.items())}
    wins = {"b": [Measured(WINS, {str(i): (1.0,) for i in range(40)})]}
    everything = frozenset(map(str, range(40)))
    slices = {"all": everything, "t": frozenset(map(str, range(5)))}
    differences = compare_models(measured, wins, slices, baseline="base", seed=0)
    pairs = {(d.model, d.other, d.measure, d.slice) for d in differences}
    assert len(differences) == len(pairs) == 2 * (3 + 1)
    assert ("b", "a", "good", "all") in pairs
    by_pair = {(d.model, d.other, d.measure, d.slice): d for d in differences}
    assert by_pair["b", "a", "good", "all"].adjusted < 0.05
    assert by_pair["a", "base", "good", "all"].adjusted > 0.05
    won = by_pair["b", "base", "wins/judges", "all"]
    assert won.difference == 0.5
    assert won.adjusted < 0.05
    assert won.n == 40
    assert by_pair["b", "base", "wins/judges", "t"].adjusted > 0.05


def test_missing_values_leave_their_prompt_out_of_the_pair() -> None:
    before, after = values(0.5, prompts=10), values(0.5, prompts=10, seed=1)
    after["3"] = (None,)
    measured = {"base": [Measured(SHARE, before)], "a": [Measured(SHARE, after)]}
    slices = {"all": frozenset(before)}
    (difference,) = compare_models(measured, {}, slices, baseline="base", seed=0)
    assert difference.n == 9


def test_what_can_be_detected_is_worked_by_hand() -> None:
    # sd of ±1 alternating over 4 prompts is sqrt(4/3); 2.8016 * 1.1547 / 2 = 1.6175
    assert detectable_difference([1.0, -1.0, 1.0, -1.0]) == pytest.approx(1.6175, abs=1e-4)
    assert detectable_difference([0.2, 0.2]) is None
    assert detectable_difference([1.0]) is None
    # 100 prompts: 2.8016 * .7071 / 10 = 19.8 points; 2.8016 * .5 / 10 = 14.0
    assert "20 points or more, and a win rate 14 points" in explain_power(100)


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    draw = np.random.default_rng(4)
    true, columns = 2.8016 / np.sqrt(50), []
    for _ in range(300):
        columns.append(dict(zip(map(str, range(50)), draw.normal(true, 1, 50), strict=True)))
    found = np.mean([p < 0.05 for p in sign_flip_values(columns, seed=0)])
    assert 0.73 <= found <= 0.87
