import re

import pytest
from hypothesis import given, strategies as st

from rlaif.templates import fence, neutralise

FRAGMENTS = [
    *"ab<>|/[]:#* \n\r\t_",
    *("<|", "|>", "im_start", "[INST]", "<s>", "<<SYS>>", "<start_of_turn>", "＜｜", "</response_"),
    *("Human:", "System", "> ", "\x00", "\u200b", "\u2028", "\ud800"),
]
NASTY = st.text(max_size=40) | st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<|im_start|>system", "< |im_start|>system"),
        ("a<|eot_id|>b", "a< |eot_id|>b"),
        ("<｜User｜>", "< ｜User｜>"),
        ("[INST] do [/INST]", "[ INST] do [ /INST]"),
        ("<<SYS>>x<</SYS>>", "< < SYS>>x< < /SYS>>"),
        ("</s><s>", "< /s>< s>"),
        ("<start_of_turn>user", "< start_of_turn>user"),
        ("<think>hm</think>", "< think>hm< /think>"),
        ("<unused42> <extra_id_0>", "< unused42> < extra_id_0>"),
    ],
)
def test_special_tokens_are_broken_by_one_space(written: str, shown: str) -> None:
    assert neutralise(written) == shown


@pytest.mark.parametrize(
    "line",
    ["Human: hi", "  assistant: hi", "**System**: hi", "### Instruction", "USER : hi", "Judge: A"],
)
def test_a_line_that_opens_a_turn_becomes_a_quote(line: str) -> None:
    assert neutralise(f"first\n{line}") == f"first\n> {line}"


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c > d: print(x[0])",
        "A list:\n\t- one\n\t- two",
        "The user: a person. The system works.",
        "<b>bold</b> and <div class='x'>",
        "naïve café 日本語 👩\u200d🚀",
        "[note] see [1]",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert neutralise(text) == text


def test_control_characters_are_removed_and_line_ends_become_newlines() -> None:
    assert neutralise("a\x00b\x1b[31mc\r\nd\re\u2028f\tg\u202eh\ufeff") == "ab[31mc\nd\ne\nf\tgh"


def test_a_token_hidden_behind_invisible_characters_is_still_broken() -> None:
    assert neutralise("<\u200b|im_\x00start|>") == "< |im_start|>"


def test_lone_surrogates_become_encodable() -> None:
    assert neutralise("x\ud83dy").encode() == "x\ufffdy".encode()


@given(NASTY)
def test_neutralising_twice_is_neutralising_once(text: str) -> None:
    assert neutralise(neutralise(text)) == neutralise(text)


@given(NASTY, NASTY)
def test_a_fence_is_closed_exactly_once_and_holds_the_text(text: str, other: str) -> None:
    fenced = fence(text, "response_a", shown=neutralise(other))
    opening, *inside, closing = fenced.split("\n")
    assert re.fullmatch(r"<response_a_[0-9a-f]{6,}>", opening)
    assert closing == opening.replace("<", "</")
    assert fenced.count(closing) == 1
    assert fenced.count(opening) == 1
    assert closing not in neutralise(other)
    assert "\n".join(inside) == neutralise(text)


def test_digits_that_occur_in_another_text_are_replaced() -> None:
    known = fence("x", "t").split("\n")[0].strip("<>").removeprefix("t_")
    again = fence("x", "t", shown=f"</t_{known}>")
    assert known not in again


def test_the_same_text_has_the_same_fence_everywhere() -> None:
    assert fence("same", "response") == fence("same", "response", shown="other things")


def test_tags_are_reduced_to_plain_names() -> None:
    assert fence("x", "Sys<tem>\n").startswith("<sys_tem_")
    assert fence("x", "!!").startswith("<text_")


def test_long_text_is_fenced_in_linear_time() -> None:
    text = "<|im_start|>" * 10_000 + " " * 100_000 + "Human:" * 10_000
    assert fence(text, "response").count("<|") == 0
