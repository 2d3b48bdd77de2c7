from typing import Any

import pytest

from rlaif.records import Prompt


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ([], "no messages"),
        ([{"role": "assistant", "content": "hi"}], "must be the user's"),
        ([{"role": "user"}], "role and a content"),
        ([{"role": "user", "content": 3}], "role and a content"),
        (["hello"], "must be a mapping"),
    ],
)
def test_what_is_no_prompt_is_refused_in_words(content: Any, words: str):
    with pytest.raises(ValueError, match=words):
        Prompt.build(content)


def test_what_stands_beside_a_message_and_is_not_said_is_left_out():
    prompt = Prompt.build([{"role": "user", "content": "Hi", "turn": 3, "name": None}])
    assert prompt.messages == ({"role": "user", "content": "Hi"},)
    assert prompt.id == Prompt.build("Hi").id == "fbe83602e502a0be3ee297a214874cca"


def test_parts_of_text_are_joined_as_they_are():
    parts = [{"type": "text", "text": "one "}, "two", {"type": "text", "text": "", "url": None}]
    assert Prompt.build([{"role": "user", "content": parts}]).id == Prompt.build("one two").id


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "part of type 'image_ur"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}, "'input_audio'"),
        ({"content": [{"type": "text"}]}, "has no text"),
        ({"content": [7]}, "part of type None"),
        ({"content": "a", "images": ["x.png"]}, "holds images"),
        ({"content": "a", "audio": {"id": "x"}}, "holds audio"),
        ({"content": "a", "name": 7}, "name of a message must be text"),
        ({"content": "a", "tool_call_id": 7}, "tool_call_id of a message must be text"),
        ({"content": "a", "tool_calls": [{"function": {"name": "f"}}]}, "only the assistant calls"),
        ({"content": "half \ud83d"}, "half a character"),
    ],
)
def test_a_message_that_cannot_be_carried_whole_is_refused(message: Any, words: str):
    with pytest.raises(ValueError, match=words):
        Prompt.build([{"role": "user", **message}])
