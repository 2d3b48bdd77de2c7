from typing import Any

import pytest
from datasets import Dataset

from rlaif.errors import InputError
from rlaif.training.data.prompts import read_prompt_set
from rlaif.training.data.read import read_demonstrations, read_preferences
from rlaif.training.data.tokens import tokenise_pairs
from tests.training.tiny import assistant, make_tokenizer, user

REFUSES = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{{ m['content'] }}{% endfor %}"
)
SYSTEM = [{"role": "system", "content": "say more"}]


def pairs(*changes: dict[str, Any]) -> Dataset:
    good = {"prompt": user("say red"), "chosen": assistant("good"), "rejected": assistant("bad")}
    return Dataset.from_list([good | change for change in changes])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": None}, "row 2: chosen is missing"),
        ({"rejected": []}, "row 2: rejected holds no message"),
        ({"chosen": [{"role": "assistant", "content": None}]}, "content that is not a text: None"),
        ({"prompt": None}, "row 2: prompt is missing"),
    ],
)
def test_a_row_that_is_not_a_text_is_named(change: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        read_preferences(pairs({}, change))


def test_messages_under_other_names_are_named():
    shared = [{"from": "gpt", "value": "good"}]
    rows = pairs({"chosen": shared, "rejected": shared})
    with pytest.raises(InputError, match="row 1: chosen message 1 has no role, only from, value"):
        read_preferences(rows)
    talks = Dataset.from_list([{"messages": [{"from": "human", "value": "say"}, *shared]}])
    with pytest.raises(InputError, match="row 1: messages message 1 has no role"):
        read_demonstrations(talks)


def test_a_demonstration_without_a_reply_is_named():
    rows = Dataset.from_list([{"prompt": "say", "completion": "red"}, {"prompt": "say"}])
    with pytest.raises(InputError, match="row 2: completion is missing"):
        read_demonstrations(rows)


@pytest.mark.parametrize("head", [[], SYSTEM])
@pytest.mark.parametrize("text", [True, False])
def test_replies_that_repeat_the_prompt_lose_it(head: list[dict[str, str]], text: bool):
    asked = [*head, *user("say red")]
    whole = {"chosen": asked + assistant("good"), "rejected": asked + assistant("bad")}
    loaded = read_preferences(pairs({"prompt": "say red" if text else asked, **whole}))
    assert loaded.dataset[0]["prompt"] == asked
    assert loaded.dataset[0]["chosen"] == assistant("good")
    assert loaded.dataset[0]["rejected"] == assistant("bad")
    assert "taken off" in loaded.notes[0]


def test_replies_to_another_prompt_are_refused():
    other = {name: user("say blue") + assistant("good") for name in ("chosen", "rejected")}
    with pytest.raises(InputError, match="row 2: chosen and rejected do not start with the prompt"):
        read_preferences(pairs({}, {**other, "rejected": user("say blue") + assistant("bad")}))


def test_a_completion_that_repeats_the_prompt_loses_it():
    rows = [{"prompt": "say red", "completion": user("say red") + assistant("red")}]
    loaded = read_demonstrations(Dataset.from_list(rows))
    assert loaded.dataset[0]["completion"] == assistant("red")


def test_what_a_chat_template_refuses_is_said_in_its_words():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = REFUSES
    prompt = [*SYSTEM, *user("say red")]
    words = "starts with the system message 'say more': System role not supported"
    rows = read_preferences(pairs({"prompt": prompt})).dataset
    with pytest.raises(InputError, match=words):
        tokenise_pairs(rows, tokenizer, max_length=64)
    with pytest.raises(InputError, match=words):
        read_prompt_set([prompt], tokenizer, context=64, max_new_tokens=8)
