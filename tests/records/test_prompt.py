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


def test_only_role_and_content_of_a_message_are_kept():
    prompt = Prompt.build([{"role": "user", "content": "Hi", "name": "x"}])
    assert prompt.messages == ({"role": "user", "content": "Hi"},)
