"""Tools in training data: carried where the chat template supports them, else counted."""

import json
from typing import Any

import pytest
from datasets import Dataset

from rlaif.errors import InputError
from rlaif.training.data.prompts import read_prompt_set
from rlaif.training.data.read import read_demonstrations, read_preferences
from rlaif.training.data.tokens import tokenise_demonstrations, tokenise_pairs
from rlaif.training.harness.progress import sample_prompts
from tests.training.tiny import TEMPLATE, assistant, make_tokenizer, user

DEFINED = (
    "{% if tools %}{{ '<s> system' }}{% for t in tools %}{{ ' ' + t['function']['name'] }}"
    "{% endfor %}{{ ' </s> ' }}{% endif %}"
)
CALLED = (
    "{% for m in messages %}{{ '<s> ' + m['role'] + ' ' + m['content'] }}"
    "{% for c in m.get('tool_calls', []) %}{{ c['function']['name'] + ' ' }}"
    "{{ c['function']['arguments']['of'] }}{% endfor %}{{ ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s> assistant ' }}{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "colour", "parameters": {"type": "object"}}}]


def call(of: str = "sky", **beside: Any) -> dict[str, Any]:
    function = {"name": "colour", "arguments": json.dumps({"of": of})}
    calls = [{"type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": calls, **beside}


def tokenizer_of(template: str) -> Any:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def conversations(*rows: list[dict[str, Any]], tools: Any = None) -> Dataset:
    """As tables hold them: every message has the keys of all."""
    return Dataset.from_list([{"messages": row, "tools": tools} for row in rows])


def words(tokenizer: Any, ids: list[int]) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids))


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS)])
def test_a_demonstration_that_only_calls_a_tool_teaches_the_call(tools: Any):
    rows = conversations([*user("name sea"), call("sea")], [*user("say"), *assistant("yes")])
    rows = conversations(*rows["messages"], tools=tools)
    tokenizer = tokenizer_of(DEFINED + CALLED)
    tokens = tokenise_demonstrations(read_demonstrations(rows).dataset, tokenizer, max_length=64)
    first, second = tokens.dataset
    assert words(tokenizer, first["completion_ids"]) == "colour sea </s>"
    assert words(tokenizer, second["completion_ids"]) == "yes </s>"
    prompt = "<s> system colour </s> <s> user name sea </s> <s> assistant"
    assert words(tokenizer, first["prompt_ids"]) == prompt
    assert not tokens.notes


def test_the_result_of_a_tool_is_part_of_the_prompt():
    result = {"role": "tool", "content": "blue", "tool_call_id": "c1"}
    talk = conversations([*user("say sky"), call(), result, *assistant("blue")])
    tokenizer = tokenizer_of(DEFINED + CALLED)
    row = tokenise_demonstrations(
        read_demonstrations(talk).dataset, tokenizer, max_length=64
    ).dataset[0]
    assert "assistant colour sky </s> <s> <unk> blue" in words(tokenizer, row["prompt_ids"])
    assert words(tokenizer, row["completion_ids"]) == "blue </s>"


@pytest.mark.parametrize("template", [TEMPLATE, DEFINED + TEMPLATE])
def test_rows_whose_tools_the_template_leaves_out_are_counted(template: str):
    rows = [[*user("say"), *assistant("yes")], [*user("say sky"), call()]]
    loaded = read_demonstrations(conversations(*rows)).dataset
    tokens = tokenise_demonstrations(loaded, tokenizer_of(template), max_length=64)
    assert len(tokens.dataset) == 1
    expected = "1 of 2 rows left out: the chat template does not support their tools"
    assert tokens.notes == (expected,)


def test_defined_tools_that_the_template_leaves_out_count_too():
    rows = conversations([*user("say"), *assistant("yes")], tools=TOOLS)
    with pytest.raises(InputError, match="of 1 rows, 1 have tools that the chat template leaves"):
        tokenise_demonstrations(read_demonstrations(rows).dataset, make_tokenizer(), max_length=64)


def test_plain_strings_carry_no_tools():
    rows = Dataset.from_list(
        [{"prompt": "say", "completion": "yes", "tools": tools} for tools in (None, "", TOOLS_TEXT)]
    )
    loaded = read_demonstrations(rows).dataset
    tokens = tokenise_demonstrations(loaded, make_tokenizer(), max_length=64, plain=True)
    assert len(tokens.dataset) == 2
    assert "1 of 3 rows left out" in tokens.notes[0]


TOOLS_TEXT = json.dumps(TOOLS)


def test_pairs_may_prefer_a_call_and_repeat_the_prompt():
    asked = user("say sky")
    pair = {"prompt": asked, "chosen": [*asked, call()], "rejected": [*asked, *assistant("no")]}
    tokenizer = tokenizer_of(DEFINED + CALLED)
    loaded = read_preferences(Dataset.from_list([pair])).dataset
    row = tokenise_pairs(loaded, tokenizer, max_length=64).dataset[0]
    assert words(tokenizer, row["chosen_ids"]) == "colour sky </s>"
    assert words(tokenizer, row["rejected_ids"]) == "no </s>"


@pytest.mark.parametrize(
    ("reply", "tools", "message"),
    [
        (call(tool_calls=[{"type": "function", "function": {}}]), None, "a function with a name"),
        (call(tool_calls=None), None, "content that is not a text: None"),
        (call(), "[{}]", "row 1: tools: tools must be a list of function definitions"),
        (call(), "{", "row 1: tools: tools must be a list or its JSON text"),
    ],
)
def test_tools_that_cannot_be_read_are_named(reply: dict[str, Any], tools: Any, message: str):
    with pytest.raises(InputError, match=message):
        read_demonstrations(conversations([*user("say"), reply], tools=tools))


def test_prompts_with_tools_are_left_out_where_they_cannot_be_carried():
    plain = {"role": "user", "content": "say red"}
    prompts: list[Any] = [[plain], [{**plain, "content": "say sky"}, call(), plain]]
    for template, tools, kept in ((CALLED, True, 2), (CALLED, False, 1), (TEMPLATE, True, 1)):
        found = read_prompt_set(
            prompts, tokenizer_of(template), context=64, max_new_tokens=8, tools=tools
        )
        assert (len(found.prompts), found.with_tools, found.too_long) == (kept, 2 - kept, 0)
    with pytest.raises(InputError, match="1 have tools that the trainer or the chat template"):
        read_prompt_set(prompts[1:], make_tokenizer(), context=64, max_new_tokens=8)


def test_samples_pass_over_prompts_with_tools():
    rows: list[dict[str, Any]] = [
        {"prompt": [*user("say sky"), call()]},
        {"prompt": "say"},
        {"prompt": user("say red")},
    ]
    assert sample_prompts(rows, 2) == ["say", user("say red")]
    assert sample_prompts([{"prompt": "say", "tools": TOOLS_TEXT}], 2) == []
