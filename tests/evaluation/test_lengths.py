from rlaif.evaluation.diversity import measure_lengths
from tests.evaluation.factories import group


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
