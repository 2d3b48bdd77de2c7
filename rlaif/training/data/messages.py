"""Conversations in data sets: every row looked at once, before a template or tokenizer sees it."""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from rlaif.errors import InputError
from rlaif.records import Message
from rlaif.records.tool_use import read_tool_calls, read_tools


def check_texts(name: str, dataset: Dataset, *columns: str, optional: bool = False) -> None:
    """Make sure that every value is a text, or messages with a role and a content or tool calls.

    With ``optional`` a value may also be missing, or hold no message.

    Raises:
        InputError: One is not; the message names the row, from 1.
    """
    for column in columns:
        for place, value in enumerate(dataset[column], start=1):
            wrong = "" if optional and not value else _wrong(value)
            if wrong:
                raise InputError(
                    f"{name}: row {place}: {column} {wrong}",
                    hint="a text, or a list of messages, each with the texts role and content",
                )
    for place, value in enumerate(dataset["tools"] if "tools" in dataset.column_names else (), 1):
        try:
            tools_of(value)
        except ValueError as problem:
            raise InputError(f"{name}: row {place}: tools: {problem}") from None


def turns_of(value: Any, role: str) -> list[Message]:
    """Return the messages of a text or conversation, without what a table filled in.

    Args:
        value: A text, or messages that `check_texts` has seen.
        role: Whose the text is.
    """
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return [_read_message(message) for message in value]


def tools_of(value: Any) -> str:
    """Return the tools of a row, a list or its JSON text, as JSON text; "" for none.

    Raises:
        ValueError: They are not a list of definitions that have names.
    """
    return read_tools(_without_null(value))


def take_prompts_off(name: str, dataset: Dataset, replies: Sequence[str]) -> tuple[Dataset, bool]:
    """Take the prompt off replies that are whole conversations.

    A reply then starts with the assistant's words. A system message before a prompt that is a
    string becomes part of the prompt.

    Returns:
        The rows, and whether anything was taken off.

    Raises:
        InputError: A reply starts with a user's or system's message that is not the prompt.
    """
    if not any(_asks(value) for column in replies for value in dataset[column]):
        return dataset, False
    rows: list[dict[str, Any]] = []
    for place, row in enumerate(dataset, start=1):
        said = {column: turns_of(row[column], "assistant") for column in replies}
        prompt = turns_of(row["prompt"], "user")
        if any(_asks(turns) for turns in said.values()):
            prompt = _head(prompt, list(said.values()))
            if not prompt:
                raise InputError(
                    f"{name}: row {place}: {' and '.join(replies)} do not start with the prompt,"
                    " nor with the assistant's words",
                    hint="give the replies alone, or the whole conversations without a prompt",
                )
            said = {column: turns[len(prompt) :] for column, turns in said.items()}
        empty = [column for column, turns in said.items() if not turns]
        if empty:
            raise InputError(f"{name}: row {place}: {empty[0]} is the prompt and nothing else")
        rows.append({**row, "prompt": prompt, **said})
    return Dataset.from_list(rows), True


def _wrong(value: Any) -> str:
    """What is wrong with a text or conversation; empty where nothing is."""
    if isinstance(value, str):
        return ""
    if value is None:
        return "is missing"
    if not isinstance(value, list):
        return f"is {value!r:.40}, neither a text nor messages"
    if not value:
        return "holds no message"
    wrong = (_wrong_message(message) for message in value)
    return next((f"message {number} {why}" for number, why in enumerate(wrong, 1) if why), "")


def _wrong_message(message: Any) -> str:
    if not isinstance(message, Mapping):
        return f"is {message!r:.40}"
    for key in ("role", "content"):
        if key not in message:
            return f"has no {key}, only {', '.join(message)}"
        only_calls = key == "content" and message[key] is None and message.get("tool_calls")
        if not isinstance(message[key], str) and not only_calls:
            return f"has a {key} that is not a text: {message[key]!r:.40}"
    try:
        _read_message(message)
    except ValueError as problem:
        return f"cannot be used: {problem}"
    return ""


def _read_message(message: Mapping[str, Any]) -> Message:
    """Return role, content and what the message says of tools.

    Raises:
        ValueError: Tool calls that cannot be carried.
    """
    turn: Message = {"role": message["role"], "content": message["content"] or ""}
    if calls := read_tool_calls(_without_null(message.get("tool_calls"))):
        turn["tool_calls"] = calls
    if message.get("name"):
        turn["name"] = message["name"]
    if message.get("tool_call_id"):
        turn["tool_call_id"] = message["tool_call_id"]
    return turn


def _without_null(value: Any) -> Any:
    """Leave out keys whose value is null: a table fills every record with the keys of all."""
    if isinstance(value, Mapping):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    return [_without_null(inner) for inner in value] if isinstance(value, list) else value


def _asks(turns: Any) -> bool:
    """Whether a conversation starts with a message of the user or the system."""
    return not isinstance(turns, str) and turns[0]["role"] in ("user", "system")


def _head(prompt: list[Message], replies: Sequence[list[Message]]) -> list[Message]:
    """Return what all replies start with, up to the end of the prompt; empty if they do not."""
    first = replies[0]
    for end in range(len(prompt), len(first) + 1):
        head = first[:end]
        if head[-len(prompt) :] == prompt:
            return head if all(reply[:end] == head for reply in replies) else []
    return []
