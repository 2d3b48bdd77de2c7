import pytest
from hypothesis import given, strategies as st

from rlaif.judging import is_refusal, parse_choice, read_word
from rlaif.records import Choice

MENU = ("A", "B")


@pytest.mark.parametrize(
    "text",
    [
        "A",
        " a\n",
        "A.",
        "(A)",
        "[[A]]",
        "**A**",
        '"A"',
        "Response A",
        "Answer: A",
        "The better response is A.",
        "My final verdict is: **Response A**",
        "Response A is better.",
        "A is the better response",
        "Therefore, I choose A",
        "B is kind, but A is brief.\n\nAnswer: A",
        '{"choice": "A"}',
        '{"reasoning": "B has more words", "verdict": "Response A"}',
        'Here it is:\n```json\n{"winner": "a"}\n```',
        "```\nA\n```",
    ],
)
def test_many_forms_of_one_verdict_are_read(text: str) -> None:
    assert parse_choice(text, MENU) == "A"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "C",
        "Tie",
        "A or B",
        "Both",
        "Neither A nor B",
        "Answer: A\nBut then again, who knows?",
        "A is worse",
        "A is not better",
        "Not A",
        "AB",
        "Answer: A B",
        '{"choice": "C"}',
        '{"choice": "A", "verdict": "B"}',
        '{"choice": ["A"]}',
        '{"mood": "A"}',
        '{"choice": "A"',
        "The answer is A because it is short, and that is what was asked for.",
    ],
)
def test_what_decides_for_nothing_on_the_menu_is_not_a_verdict(text: str) -> None:
    assert parse_choice(text, MENU) is None


def test_an_earlier_mention_never_counts() -> None:
    assert parse_choice("A\nI change my mind:\nB", MENU) == "B"
    assert parse_choice("Answer: A\n\nHm.", MENU) is None


def test_a_tie_is_read_where_it_is_on_the_menu() -> None:
    assert parse_choice("Answer: tie", (*MENU, "TIE")) == "TIE"


@given(st.text(max_size=200))
def test_whatever_is_read_is_on_the_menu(text: str) -> None:
    assert parse_choice(text, MENU) in (*MENU, None)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't compare these.",
        "Sorry, no.",
        "I cannot help with that.",
        "I won’t judge this.",
        "As an AI language model, I have no opinion.",
        "Unfortunately, I am not able to.",
    ],
)
def test_a_judge_that_declines_abstains_with_another_reason(text: str) -> None:
    assert is_refusal(text)
    reading = read_word(text)
    assert (reading.choice, reading.reason) == (Choice.ABSTAIN, "refused")


def test_an_answer_that_cannot_be_read_is_not_a_refusal() -> None:
    reading = read_word("I cannot decide which is longer, so perhaps both?")
    assert reading.reason == "refused"
    assert read_word("Either.").reason == "unreadable"
    assert not is_refusal("Response A says sorry too often.")
    assert not is_refusal("A")


def test_a_reply_that_was_cut_off_is_not_read() -> None:
    # "A" may have been the beginning of "A is worse".
    assert read_word("A", cut_off=True).choice is Choice.ABSTAIN
    assert read_word("A").choice is Choice.A
