from rlaif.evaluation.measure import Measure, Measured, Values
from rlaif.evaluation.scorecard import change_all, estimate_all, slice_prompts
from rlaif.records import Prompt

MEASURE = Measure("m", "a number", better="higher", kind="number", cannot_tell="much")


def prompt(prompt_id: str, *tags: str) -> Prompt:
    return Prompt.build("Well?", id=prompt_id, tags=tags)


def measured(values: Values) -> list[Measured]:
    return [Measured(MEASURE, values)]


def test_slices_are_everything_and_each_tag_that_divides_it() -> None:
    slices = slice_prompts([prompt("a", "easy", "seen"), prompt("b", "seen", "all")])
    assert slices == {"all": frozenset("ab"), "easy": frozenset("a")}


def test_every_slice_gets_an_estimate_with_its_counts() -> None:
    slices = {"all": frozenset("abc"), "easy": frozenset("a"), "none": frozenset("z")}
    values = {"a": (1.0, None), "b": (3.0, 3.0), "c": (None, None)}
    every, easy = estimate_all("policy", measured(values), slices, seed=0)
    assert (every.slice, every.estimate, every.n) == ("all", 2.0, 2)
    assert (every.scored, every.unscored) == (3, 3)
    assert (easy.slice, easy.estimate, easy.n, easy.low) == ("easy", 1.0, 1, None)


def test_nothing_scored_gives_no_number_and_is_counted() -> None:
    (only,) = estimate_all("m", measured({"a": (None,)}), {"all": frozenset("a")}, seed=0)
    assert (only.estimate, only.low, only.high, only.n, only.unscored) == (None, None, None, 0, 1)


def test_a_change_counts_prompts_known_on_both_sides() -> None:
    before = measured({"a": (1.0,), "b": (None,), "c": (2.0,)})
    after = measured({"a": (2.0, 4.0), "b": (5.0,), "c": (2.0,)})
    (change,) = change_all("policy", before, after, {"all": frozenset("abc")}, seed=0)
    assert change.estimate == (2.0 + 0.0) / 2
    assert (change.n, change.scored, change.unscored) == (2, 2, 1)


def test_a_measure_that_only_one_side_has_gives_no_change() -> None:
    assert change_all("p", [], measured({"a": (1.0,)}), {"all": frozenset("a")}, seed=0) == []
