"""From a record to a prompt: which columns hold what, and conversations in their usual shapes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from rlaif.config.prompts import PromptSource
from rlaif.inputs.records import Broken
from rlaif.records import Failure, Prompt

_WRITTEN = (str, int, float, Decimal, date, datetime, UUID)
"""What may be an id or a tag: has one spelling, and equal ones are equal text."""

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}


def make_prompt(record: Any, place: str, source: PromptSource, column: str) -> Prompt | Failure:
    """Make a prompt of a record, or say why it is none.

    Args:
        record: As read; a `Broken` where that failed.
        place: Where it was read, for messages; the failure's record id.
        source: Names the other columns.
        column: The column of prompts.
    """
    if isinstance(record, Broken):
        return Failure("read", place, record.kind, record.message)
    if not isinstance(record, Mapping):
        return Failure("read", place, "bad-record", f"expected an object, found {record!r:.60}")
    content = find_column(record, column)
    if is_missing(content) and content != "":
        found = ", ".join(sorted(map(str, record))) or "nothing"
        message = f"no {column!r} (found: {found:.200})"
        return Failure("read", place, "missing-column", message)
    given = None
    if source.id_column is not None:
        value = find_column(record, source.id_column)
        if is_missing(value):
            return Failure("read", place, "missing-id", f"no {source.id_column!r}")
        given = _as_text(value)
        if given is None or isinstance(value, bool):
            message = f"{source.id_column!r} is neither text nor a number: {value!r:.60}"
            return Failure("read", place, "bad-id", message)
    tags = _tags(record, source)
    if tags is None:
        message = f"{source.tags_column!r} holds what is neither text nor a number"
        return Failure("read", place, "bad-tags", message)
    if not isinstance(content, str | Sequence):
        message = f"{column!r} is neither text nor a list of messages: {content!r:.60}"
        return Failure("read", place, "bad-prompt", message)
    try:
        return Prompt.build(
            content if isinstance(content, str) else _messages(content, source.drop_last_reply),
            id=given,
            tags=(*source.tags, *tags),
            source=place,
            tools=None if source.tools_column is None else find_column(record, source.tools_column),
        )
    except ValueError as problem:
        return Failure("read", place, "bad-prompt", str(problem))


def find_column(record: Mapping[Any, Any], column: str) -> Any:
    """Return what a column holds; dots and numbers lead inwards, as in ``data.turns.0.text``.

    A column whose own name has the dots comes first. None when there is nothing.
    """
    if column in record:
        return record[column]
    value: Any = record
    for step in column.split("."):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list | tuple) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def all_text(value: Any) -> Iterator[str]:
    """Yield every text inside a record, in order; keys, roles and numbers are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in ("role", "from"):
                yield from all_text(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from all_text(item)


def _messages(content: Sequence[Any], drop_last_reply: bool) -> list[Any]:
    messages = [_message(message) for message in content]
    if drop_last_reply:
        while messages and isinstance(messages[-1], Mapping) and _is_reply(messages[-1]):
            messages.pop()
    return messages


def _message(message: Any) -> Any:
    """A message of the form {from, value} (ShareGPT) as one of {role, content}."""
    if not isinstance(message, Mapping) or "from" not in message or "role" in message:
        return message
    role = message["from"]
    said = {"tool_calls" if role == "function_call" else "content": message.get("value")}
    beside = {key: value for key, value in message.items() if key not in ("from", "value")}
    return {**beside, "role": _ROLES.get(role, role), **said}


def _is_reply(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "assistant"


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, empty text, or the NaN of tables with gaps."""
    return value is None or (isinstance(value, str) and value == "") or value != value


def _as_text(value: Any) -> str | None:
    """Return an id or a tag as it was written; None when it is neither text nor a number."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    if not isinstance(value, _WRITTEN):
        return None
    # Libraries that have no missing integers write 7.0 for 7, where other rows lack the number.
    if type(value) is float and math.isfinite(value) and value.is_integer():
        return str(int(value))
    return str(value)


def _tags(record: Mapping[str, Any], source: PromptSource) -> tuple[str, ...] | None:
    """The tags of a record; None when it has what cannot be one."""
    value = None if source.tags_column is None else find_column(record, source.tags_column)
    if is_missing(value):
        return ()
    if isinstance(value, str):
        return tuple(tag.strip() for tag in value.split(",") if tag.strip())
    values = value if isinstance(value, list | tuple) else [value]
    tags = [_as_text(one) for one in values if not is_missing(one)]
    return None if None in tags else tuple(tag for tag in tags if tag is not None)
