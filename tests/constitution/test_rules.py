import time

import pytest

from rlaif.constitution import Rule, check_rule, explain_rule
from rlaif.constitution.models import LANGUAGES
from rlaif.constitution.rules import (
    LONGEST_SEARCHED,
    count_repeats,
    count_sentences,
    ends_complete,
    odds_against,
    split_words,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("   \n ", 0),
        ("one", 1),
        ("Don't split well-known words.", 4),
        ("It costs 3.5 euros - or 4!", 6),  # It costs 3.5 euros or 4; the dash is none
        ("- one\n* two\n1. three", 4),  # a list number holds a digit
        ("One—two", 2),
        ("Äpfel, naïve; straße", 3),
        ("你好世界", 4),
        ("Python 是 best", 3),
        ("안녕 세상", 2),
        ("... !!! —", 0),
    ],
)
def test_words_are_stretches_with_a_letter_or_digit(text: str, count: int):
    assert len(split_words(text)) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("Hello", 1),
        ("Hello.", 1),
        ("Hello. World.", 2),
        ("Really?! Yes… Good", 3),
        ("Dr. Smith met J. Jones. They talked.", 2),
        ("Use tools, e.g. hammers, i.e. heavy ones.", 1),
        ("It is 3.14. Then 2.", 2),
        ('He said "Stop!" and left.', 1),
        ('He said "Stop!" She left.', 2),
        ("First part\n\nSecond part", 2),
        ("Things:\n- one\n- two", 3),
        ("1. Boil water.\n2. Add rice.", 2),
        ("一。二！三", 3),
        ("I saw vitamin A.", 1),
        ("...", 0),
    ],
)
def test_sentences_end_where_a_reader_sees_an_end(text: str, count: int):
    assert count_sentences(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "Done.",
        "Done!  \n",
        'He said "yes."',
        "**Done.**",
        "(It is done.)",
        "Have fun! 😊",
        "Great job! 👍🏽",
        "完了。",
        "```python\nprint(1)\n```",
        "Really?",
        "And so on…",
    ],
)
def test_finished_texts_end_complete(text: str):
    assert ends_complete(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Not done",
        "Not done,",
        "Things:",
        "1. One.\n2.",
        "One.\n- ",
        "```python\nprint(1.)",
        "```a```\nand then",
        "😊",
        '"',
    ],
)
def test_cut_off_texts_do_not_end_complete(text: str):
    assert not ends_complete(text)


def test_repeats_are_counted_without_case_and_outer_punctuation():
    # Runs of four: "the cat sat on" twice, all others once.
    text = 'The cat sat on a mat. "The cat, sat on" it.'
    assert count_repeats(text) == (2, "the cat sat on")
    assert count_repeats("too short now") == (0, "")
    assert count_repeats("a a a a a a") == (3, "a a a a")


def test_lengths_are_checked_at_their_bounds():
    three, four = "one two three", "one two three four"
    assert check_rule(Rule(max_words=3), three)
    assert explain_rule(Rule(max_words=3), four) == ["max_words: 4 words, at most 3 allowed"]
    assert check_rule(Rule(min_words=4), four)
    assert explain_rule(Rule(min_words=4), three) == ["min_words: 3 words, at least 4 needed"]
    assert check_rule(Rule(max_sentences=1), "One. ")
    assert explain_rule(Rule(max_sentences=1), "One. Two.") == [
        "max_sentences: 2 sentences, at most 1 allowed"
    ]


def test_all_checks_must_hold_and_each_failed_one_is_explained():
    rule = Rule(max_words=2, must_match="z", ends_complete=True, max_repeated_ngram=1)
    failed = explain_rule(rule, "a a a a a")
    assert [line.split(":")[0] for line in failed] == [
        "max_words",
        "must_match",
        "max_repeated_ngram",
        "ends_complete",
    ]
    assert "'a a a a' occurs 2 times, at most 1" in failed[2]
    assert not check_rule(rule, "a a a a a")
    assert check_rule(rule, "z.")


def test_patterns_are_searched_anywhere_and_are_case_sensitive():
    assert check_rule(Rule(must_match="b+"), "aabb")
    assert explain_rule(Rule(must_match="B"), "aabb") == ["must_match: 'B' does not match"]
    assert explain_rule(Rule(must_not_match="(?i)^sure"), "Sure!") == [
        "must_not_match: 'Sure' at character 1"
    ]


def test_patterns_see_only_the_first_characters_of_a_very_long_response():
    long = "a" * LONGEST_SEARCHED + "b"
    assert check_rule(Rule(must_not_match="b"), long)
    assert not check_rule(Rule(must_not_match="b"), long[1:])


def test_a_quadratic_pattern_on_a_huge_response_takes_seconds_not_hours():
    start = time.perf_counter()
    assert check_rule(Rule(must_not_match=r"\s+b"), " " * 2_000_000)
    assert time.perf_counter() - start < 30


def test_degenerate_responses_take_little_time():
    rule = Rule(max_words=5, max_sentences=5, max_repeated_ngram=1, ends_complete=True)
    for piece in ("A. ", "\n", "- ", " \n", "a", "!", '")', "1. "):
        start = time.perf_counter()
        check_rule(rule, piece * 10_000)
        assert time.perf_counter() - start < 5


GERMAN = "Natürlich kann ich dir helfen. Zuerst kochst du Wasser in einem Topf."


def test_another_language_breaks_the_language_rule():
    assert check_rule(Rule(language="de"), GERMAN)
    (failed,) = explain_rule(Rule(language="en"), GERMAN)
    assert failed.startswith("language: de is ")
    assert check_rule(Rule(language="en"), "Of course I can help you. First boil some water.")


@pytest.mark.parametrize("text", ["", "Hello", "42", "OK!", "Lisbon.", "\ud800"])
def test_a_text_too_short_to_tell_does_not_break_the_language_rule(text: str):
    assert check_rule(Rule(language="en"), text)


def test_odds_are_below_one_for_the_likeliest_language():
    odds, other = odds_against("de", GERMAN)
    assert odds < 1
    assert other != "de"


def test_every_language_code_is_supported_by_the_identifier():
    import py3langid

    assert {code for code, _ in py3langid.rank("x")} >= LANGUAGES
