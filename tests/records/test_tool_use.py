from typing import Any

import pytest

from rlaif.records import Prompt
from rlaif.records.tool_use import for_server, for_template, left_out, spoken, stored, uses_tools

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
CALL = {
    "id": "c7",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Köln"}'},
}
ASKED: list[dict[str, Any]] = [
    {"role": "user", "content": "Is it raining?", "name": "ada"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "yes", "tool_call_id": "c7", "name": "weather"},
]


def test_a_conversation_with_tools_is_carried_whole():
    prompt = Prompt.build([*ASKED, {"role": "user", "content": "And now?"}], tools=[WEATHER])
    assert prompt.messages[0]["name"] == "ada"
    assert prompt.messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert prompt.messages[2] == ASKED[2]
    assert prompt.text == "And now?"
    assert for_template(prompt.messages)[1] == [WEATHER]


def test_the_result_of_a_tool_may_come_last():
    prompt = Prompt.build(ASKED)
    assert prompt.text == "Is it raining?"
    with pytest.raises(ValueError, match="no message of the user"):
        Prompt.build(ASKED[1:])


def test_every_shape_of_a_call_is_the_same_conversation():
    flat = {"name": "weather", "arguments": {"city": "Köln"}}
    shapes: list[dict[str, Any]] = [
        {"content": "", "tool_calls": [{"function": flat}]},
        {"content": None, "tool_calls": flat},
        {"tool_calls": '[{"name": "weather", "arguments": {"city": "Köln"}}]'},
        {"function_call": {"name": "weather", "arguments": '{"city": "Köln"}'}},
        {"tool_calls": [{"type": "function", "index": 0, "function": flat}]},
    ]
    ids = {
        Prompt.build([ASKED[0], {"role": "assistant", **shape}, ASKED[0]]).id for shape in shapes
    }
    assert len(ids) == 1


def test_conversations_that_differ_in_a_call_alone_are_different_prompts():
    other = {**CALL, "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
    changed = [ASKED[0], {**ASKED[1], "tool_calls": [other]}, ASKED[2]]
    assert Prompt.build(changed).id != Prompt.build(ASKED).id
    assert Prompt.build(ASKED, tools=[WEATHER]).id != Prompt.build(ASKED).id


@pytest.mark.parametrize(
    "calls",
    [
        [{"function": {}}],
        ["weather"],
        "weather(",
        [{"type": "custom", "function": {"name": "f"}}],
        [{"function": {"name": "f"}, "extra_content": {"signature": "x"}}],
        [{"id": 7, "function": {"name": "f"}}],
        [{"function": {"name": "f", "arguments": {"x": float("nan")}}}],
    ],
)
def test_a_call_that_cannot_be_carried_whole_is_refused(calls: Any):
    with pytest.raises(ValueError, match=r"call|tools hold"):
        Prompt.build([ASKED[0], {"role": "assistant", "tool_calls": calls}, ASKED[0]])


@pytest.mark.parametrize("tools", ["weather", [{}], [7], {"name": "f"}, '["f"]'])
def test_tools_that_are_not_definitions_are_refused(tools: Any):
    with pytest.raises(ValueError, match="tools"):
        Prompt.build("Hi", tools=tools)


def test_a_server_gets_an_id_with_every_call_and_every_result():
    call = {"function": CALL["function"]}
    prompt = Prompt.build(
        [
            ASKED[0],
            {"role": "assistant", "tool_calls": [call, call]},
            {"role": "tool", "content": "yes"},
            {"role": "tool", "content": "no"},
            {"role": "assistant", "content": "Both.", "tool_calls": [CALL]},
            ASKED[2],
        ]
    )
    turns = for_server(prompt.messages)
    assert [call["id"] for call in turns[1]["tool_calls"]] == ["call_1", "call_2"]
    assert turns[1]["content"] is None
    assert [turn["tool_call_id"] for turn in turns if turn["role"] == "tool"] == [
        *("call_1", "call_2", "c7")
    ]
    assert turns[4]["content"] == "Both."


def test_a_template_gets_arguments_as_values():
    turns, tools = for_template(Prompt.build(ASKED).messages)
    assert turns[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Köln"}
    assert tools is None


def test_a_rendering_that_leaves_out_a_tool_is_found():
    messages = Prompt.build(ASKED, tools=[WEATHER]).messages
    assert left_out(messages, "Is it raining?") == "weather"
    assert left_out(messages, "weather(...)") is None


def test_what_is_shown_as_text_says_the_calls():
    plain = Prompt.build("Hi").messages
    assert spoken(plain) == plain
    assert not uses_tools(plain)
    assert spoken(Prompt.build(ASKED).messages)[1] == {
        "role": "assistant",
        "content": 'weather({"city": "Köln"})',
    }


def test_a_message_from_a_table_has_no_empty_fields():
    empty = dict.fromkeys(("name", "tool_calls", "tool_call_id", "tools"))
    assert stored({"role": "user", "content": "Hi", **empty}) == {"role": "user", "content": "Hi"}


def test_a_system_message_keeps_what_it_carries():
    prompt = Prompt.build([{"role": "system", "content": "Short."}, *ASKED], tools=[WEATHER])
    first, *rest = prompt.with_system("Be kind.")
    assert first["content"] == "Be kind.\n\nShort."
    assert for_template([first, *rest])[1] == [WEATHER]


def test_ids_that_are_made_up_differ_from_all_that_are_given():
    call = {"function": CALL["function"]}
    prompt = Prompt.build(
        [
            ASKED[0],
            {"role": "assistant", "tool_calls": [call, {**CALL, "id": "call_1"}]},
            {"role": "tool", "content": "yes", "tool_call_id": "call_1"},
            {"role": "tool", "content": "no"},
            ASKED[2],
        ]
    )
    turns = for_server(prompt.messages)
    assert [call["id"] for call in turns[1]["tool_calls"]] == ["call_2", "call_1"]
    assert [turn["tool_call_id"] for turn in turns[2:4]] == ["call_1", "call_2"]
