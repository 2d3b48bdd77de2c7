import pytest
from hypothesis import given, strategies as st

from rlaif.evaluation.diversity import (
    distinct,
    measure_diversity,
    measure_lengths,
    ngrams,
    self_repetition,
)
from rlaif.evaluation.measure import Measured
from tests.evaluation.factories import group


def measured(*groups: object) -> dict[str, Measured]:
    return {item.measure.name: item for item in measure_diversity(groups)}  # type: ignore[arg-type]


def test_distinct_counts_different_over_all() -> None:
    # the cat the dog: words the, cat, the, dog -> 3 of 4; pairs the cat, cat the, the dog -> 3 of 3
    assert distinct(["The cat, the dog."], 1) == pytest.approx(3 / 4)
    assert distinct(["The cat, the dog."], 2) == 1.0


def test_pairs_do_not_run_over_the_border_of_two_texts() -> None:
    # a b | a b: pairs (a b), (a b); the pair (b a) across the border is none
    assert distinct(["a b", "a b"], 2) == pytest.approx(1 / 2)


def test_a_text_without_ngrams_has_no_number() -> None:
    assert distinct(["", "one"], 2) is None
    assert self_repetition("one two three") is None


def test_self_repetition_is_the_share_said_before() -> None:
    # a b c d a b c d: 4-grams abcd bcda cdab dabc abcd -> 1 of 5 was said before
    assert self_repetition("a b c d a b c d") == pytest.approx(1 / 5)


def test_distinct_is_taken_over_the_responses_to_a_prompt_together() -> None:
    table = measured(group("p", "a b", "a c"), group("q", "x y", None))
    assert table["diversity/distinct-1"].values == {"p": (3 / 4,), "q": (1.0,)}


def test_equal_words_are_duplicates_whatever_the_prompt_and_the_punctuation() -> None:
    table = measured(group("p", "Yes, I can.", "No."), group("q", "yes i can", "...", None))
    assert table["diversity/duplicates"].values == {"p": (1.0, 0.0), "q": (1.0, None, None)}


def test_phrases_common_to_several_prompts_are_found() -> None:
    # p: abcd bcde, q: bcdex? no: q holds b c d e f -> bcde cdef; bcde is common to both
    table = measured(group("p", "a b c d e"), group("q", "b c d e f"))
    assert table["diversity/common"].values == {"p": (1 / 2,), "q": (1 / 2,)}


def test_a_phrase_repeated_for_one_prompt_only_is_not_common() -> None:
    table = measured(group("p", "a b c d", "a b c d"), group("q", "w x y z"))
    assert table["diversity/common"].values == {"p": (0.0, 0.0), "q": (0.0,)}


@given(st.lists(st.text("ab c", max_size=12), max_size=5), st.integers(1, 4))
def test_distinct_lies_in_the_half_open_unit_interval(texts: list[str], n: int) -> None:
    value = distinct(texts, n)
    assert value is None or 0 < value <= 1


@given(st.lists(st.sampled_from("abc"), max_size=10), st.integers(1, 5))
def test_there_are_as_many_ngrams_as_places_to_start(words: list[str], n: int) -> None:
    assert len(list(ngrams(words, n))) == max(0, len(words) - n + 1)


def test_words_tokens_and_cut_off_are_counted() -> None:
    words, tokens, cut = measure_lengths([group("p", "It is so.", "No.", tokens=7)])
    assert words.values == {"p": (3.0, 1.0)}
    assert tokens.values == {"p": (7.0, 7.0)}
    assert cut.values == {"p": (0.0, 0.0)}


def test_tokens_that_no_engine_counted_are_unscored() -> None:
    _, tokens, _ = measure_lengths([group("p", "It is so.")])
    assert tokens.values == {"p": (None,)}


def test_a_response_that_met_the_limit_is_cut_off() -> None:
    _, _, cut = measure_lengths([group("p", "It is so that", None, finish="length")])
    assert cut.values == {"p": (1.0, None)}
