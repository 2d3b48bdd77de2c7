"""Tools in conversations: read in the shapes they come in, written in those that readers take.

A message carries what it says of tools beside role and content: ``tool_calls`` in OpenAI's form,
with the arguments as JSON text; ``tool_call_id`` and ``name``; and the first message of a
conversation ``tools``, the definitions as JSON text. Messages without tools are role and content
alone, so their ids and keys are what they always were.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict


class Function(TypedDict):
    """What is called."""

    name: str
    arguments: str
    """JSON text, as the model wrote it."""


class ToolCall(TypedDict):
    """One call of a tool."""

    id: NotRequired[str]
    type: str
    """``function``: no other is carried."""

    function: Function


class Message(TypedDict):
    """One turn of a conversation, in the shape every chat template and API accepts."""

    role: str
    content: str
    """Empty where an assistant only calls tools."""

    name: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    tools: NotRequired[str]
    """On the first message: a JSON list of the tools there are."""


_FIELDS = frozenset({"name", "tool_calls", "tool_call_id", "tools"})


def uses_tools(messages: Sequence[Message]) -> bool:
    """Whether a message carries anything beside role and content."""
    return not all(map(_FIELDS.isdisjoint, messages))


def read_tool_calls(value: Any) -> list[ToolCall]:
    """Read an assistant's calls: a list, one call, or the JSON text of either.

    Raises:
        ValueError: Something in them cannot be carried.
    """
    calls = _parsed(value, "tool calls")
    return [_read_call(call) for call in ([calls] if isinstance(calls, Mapping) else calls or ())]


def read_tools(value: Any) -> str:
    """Read tool definitions, a list or its JSON text, and return them as JSON text; "" for none.

    Raises:
        ValueError: They are not a list of definitions that have names.
    """
    tools = _parsed(value, "tools")
    if not tools:
        return ""
    if not isinstance(tools, list | tuple) or not all(map(_tool_name, tools)):
        raise ValueError(f"tools must be a list of function definitions, not {value!r:.60}")
    return _json(list(tools))


def stored(message: Mapping[str, Any]) -> Message:
    """Return a message as it was before a table filled what it lacks with None."""
    read: Any = {key: value for key, value in message.items() if value is not None}
    if "tool_calls" in read:
        read["tool_calls"] = [
            {key: value for key, value in call.items() if value is not None}
            for call in read["tool_calls"]
        ]
    return read  # type: ignore[no-any-return]


def for_template(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Return messages and tools as chat templates take them: arguments are values, not text."""
    turns = without_tools(messages)
    for turn in turns:
        if "tool_calls" in turn:
            turn["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": _arguments(call)}}
                for call in turn["tool_calls"]
            ]
    return turns, tools_of(messages)


def for_server(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages as servers take them: every call has an id, every result names its call.

    Calls without ids get ``call_1``, ``call_2`` …, as far as no other call or result has that id;
    results without one belong to the calls before them, in order.
    """
    turns = without_tools(messages)
    waiting: list[str] = []
    given = set(_ids(turns))
    free = (name for name in map("call_{}".format, itertools.count(1)) if name not in given)
    for turn in turns:
        if "tool_calls" in turn:
            calls = []
            for call in turn["tool_calls"]:
                calls.append({**call, "id": call.get("id") or next(free)})
            waiting = [call["id"] for call in calls]
            turn |= {"content": turn["content"] or None, "tool_calls": calls}
        elif turn["role"] == "tool":
            answered = turn.get("tool_call_id") or (waiting[0] if waiting else "")
            if answered in waiting:
                waiting.remove(answered)
            if answered:
                turn["tool_call_id"] = answered
    return turns


def spoken(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the conversation as text alone, with calls written out as ``name(arguments)``."""
    return tuple(_spoken(message) if "tool_calls" in message else message for message in messages)


def without_tools(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages without the definitions of tools, each a new dictionary."""
    return [{key: value for key, value in m.items() if key != "tools"} for m in messages]


def tool_texts(messages: Sequence[Message]) -> list[str]:
    """Return the definitions of tools as they are sent, for counting."""
    return [message["tools"] for message in messages if "tools" in message]


def tools_of(messages: Sequence[Message]) -> list[Any] | None:
    """Return the tools that a conversation has; None for none."""
    for message in messages:
        if message.get("tools"):
            tools: list[Any] = json.loads(message["tools"])
            return tools
    return None


def left_out(messages: Sequence[Message], rendered: str) -> str | None:
    """Return the first tool, or called tool, whose name a rendered conversation does not say.

    Chat templates that know no tools pass over them without a word.
    """
    return next((name for name in _names(messages) if name not in rendered), None)


def _names(messages: Sequence[Message]) -> Iterator[str]:
    yield from map(_tool_name, tools_of(messages) or ())
    for message in messages:
        yield from (call["function"]["name"] for call in message.get("tool_calls", ()))


def _ids(turns: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    for turn in turns:
        yield turn.get("tool_call_id")
        yield from (call.get("id") for call in turn.get("tool_calls", ()))


def _spoken(message: Message) -> Message:
    calls = (call["function"] for call in message["tool_calls"])
    said = [f"{call['name']}({call['arguments']})" for call in calls]
    return {
        "role": message["role"],
        "content": "\n".join([message["content"], *said] if message["content"] else said),
    }


def _read_call(call: Any) -> ToolCall:
    given = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise ValueError(f"a tool call needs a function with a name: {call!r:.60}")
    beside = set(call) - {"id", "type", "function", "index", "name", "arguments"}
    if call.get("type") not in (None, "function") or any(call[key] is not None for key in beside):
        raise ValueError(f"only calls of functions can be carried, not {call!r:.60}")
    arguments = given.get("arguments")
    if not isinstance(arguments, str):
        arguments = _json({} if arguments is None else arguments)
    read: ToolCall = {
        "type": "function",
        "function": {"name": given["name"], "arguments": arguments},
    }
    if call.get("id") is not None:
        if not isinstance(call["id"], str):
            raise ValueError(f"the id of a tool call must be text, not {call['id']!r:.60}")
        read["id"] = call["id"]
    return read


def _parsed(value: Any, what: str) -> Any:
    if not isinstance(value, str) or not value:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(f"{what} must be a list or its JSON text, not {value!r:.60}") from None


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ValueError(f"tools hold what JSON cannot say: {value!r:.60}") from None


def _tool_name(tool: Any) -> str:
    given = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = given.get("name") if isinstance(given, Mapping) else None
    return name if isinstance(name, str) else ""


def _arguments(call: ToolCall) -> Any:
    try:
        value = json.loads(call["function"]["arguments"])
    except (ValueError, RecursionError):
        return call["function"]["arguments"]
    return value if isinstance(value, dict) else call["function"]["arguments"]
