"""System text in the user turn, and reasoning apart from the reply."""

import pytest

from rlaif.engines.turns import fold_system, split_reasoning
from rlaif.records import Message

USER: Message = {"role": "user", "content": "Hello"}
SYSTEM: Message = {"role": "system", "content": "Be brief."}


def test_system_text_goes_to_the_head_of_the_first_user_turn():
    later: Message = {"role": "user", "content": "And?"}
    answer: Message = {"role": "assistant", "content": "Hi"}
    folded = fold_system((SYSTEM, USER, answer, later))
    assert list(folded) == [{"role": "user", "content": "Be brief.\n\nHello"}, answer, later]
    assert SYSTEM["content"] == "Be brief."


def test_a_conversation_without_a_system_turn_is_left_as_it_is():
    assert fold_system((USER,)) == (USER,)
    assert fold_system(()) == ()


def test_system_text_alone_becomes_a_user_turn():
    assert fold_system((SYSTEM,)) == [{"role": "user", "content": "Be brief."}]


@pytest.mark.parametrize(
    ("text", "reply", "reasoning"),
    [
        ("A plain reply.", "A plain reply.", ""),
        ("<think>\nHmm.\n</think>\n\nB", "B", "Hmm."),
        ("<think></think>\n\nB", "B", ""),
        ("  <thinking>x</thinking>B", "B", "x"),
        ("<thought>x</thought>B", "B", "x"),
        ("[THINK]x[/THINK]B", "B", "x"),
        ("<think>cut off in the mid", "", "cut off in the mid"),
        ("the template began it</think>B", "B", "the template began it"),
        ("<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>final<|message|>B",
         "B", "x"),
        ("<|channel|>analysis<|message|>cut off", "", "cut off"),
        ("Write <think> and </think> around it.", "Write <think> and </think> around it.", ""),
        ("if a < b: [0]", "if a < b: [0]", ""),
        ("<think>a <think>b</think> c</think>B", "B", "a <think>b</think> c"),
        ("<think>the tag <think> is odd</think>B", "B", "the tag <think> is odd"),
        ("<think>a</think>\n<think>b</think>\nB", "B", "a\n\nb"),
        ("<think>a</think>B, not </think>C", "B, not </think>C", "a"),
        ("It was long.\n</think>\n\nB", "B", "It was long."),
        ("B <think>x</think> C", "B <think>x</think> C", ""),
        ("Close it with `</think>` and stop.", "Close it with `</think>` and stop.", ""),
        ("B. Models write </think> after it.", "B. Models write </think> after it.", ""),
        ("```\nx\n</think>\n```\nB", "```\nx\n</think>\n```\nB", ""),
    ],
)  # fmt: skip
def test_reasoning_is_taken_out_of_a_reply(text: str, reply: str, reasoning: str):
    assert split_reasoning(text) == (reply, reasoning)


def test_reasoning_with_many_open_brackets_is_read_in_time_that_grows_with_its_length():
    text = "<think>" * 20_000 + "x"
    assert split_reasoning(text)[0] == ""
