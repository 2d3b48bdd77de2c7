"""From a record to a prompt: its columns, and conversations in their usual shapes."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from rlaif.config.prompts import PromptSource
from rlaif.errors import RecordError
from rlaif.inputs.files import Broken
from rlaif.records import Failure, Prompt

CANDIDATES = ("messages", "prompt", "instruction", "question")

LOOKED_AT = 20
"""Records at the start of the input that are checked for these columns."""

log = logging.getLogger(__name__)

_WRITTEN = (str, int, float, Decimal, date, datetime, UUID)
"""Types of ids and tags: equal values have equal text."""

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
    """Make a prompt of a record, or a failure that says what is invalid.

    Args:
        record: The record, or a `Broken` if it could not be read.
        place: Its file and line, for messages; the failure's record id.
        source: Has the names of the other columns.
        column: The column of prompts.
    """
    if isinstance(record, Broken):
        return Failure("read", place, record.kind, record.message)
    if not isinstance(record, Mapping):
        return Failure("read", place, "bad-record", f"expected an object, found {record!r:.60}")
    content = find_column(record, column)
    if is_missing(content) and content != "":
        keys = ", ".join(sorted(map(str, record))) or "nothing"
        message = f"no {column!r} (found: {keys:.200})"
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
        message = f"{source.tags_column!r} contains a value that is neither text nor a number"
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
    """Return the value of a column; dots and numbers lead inwards, as in ``data.turns.0.text``.

    A column whose name has the dots comes first. None when there is no value.
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
    """Yield every text inside a record, in order, except keys and roles."""
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
        while (
            messages
            and isinstance(messages[-1], Mapping)
            and (messages[-1].get("role") == "assistant")
        ):
            messages.pop()
    return messages


def _message(message: Any) -> Any:
    """Convert a message of the form {from, value} (ShareGPT) to {role, content}."""
    if not isinstance(message, Mapping) or "from" not in message or "role" in message:
        return message
    role = message["from"]
    content = {"tool_calls" if role == "function_call" else "content": message.get("value")}
    others = {key: value for key, value in message.items() if key not in ("from", "value")}
    return {**others, "role": _ROLES.get(role, role), **content}


def is_missing(value: Any) -> bool:
    """Whether a value is missing: None, empty text, or the NaN of tables with gaps."""
    return value is None or (isinstance(value, str) and value == "") or value != value


def _as_text(value: Any) -> str | None:
    """Return an id or a tag as written; None when it is neither text nor a number."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    if not isinstance(value, _WRITTEN):
        return None
    # Libraries without missing integers write 7.0 for 7 if the number is missing in other rows.
    if type(value) is float and math.isfinite(value) and value.is_integer():
        return str(int(value))
    return str(value)


def _tags(record: Mapping[str, Any], source: PromptSource) -> tuple[str, ...] | None:
    """Return the tags of a record; None when one is invalid."""
    value = None if source.tags_column is None else find_column(record, source.tags_column)
    if is_missing(value):
        return ()
    if isinstance(value, str):
        return tuple(tag.strip() for tag in value.split(",") if tag.strip())
    values = value if isinstance(value, list | tuple) else [value]
    tags = [_as_text(value) for value in values if not is_missing(value)]
    return None if None in tags else tuple(tag for tag in tags if tag is not None)


def guess_column(records: Iterable[Any], name: str) -> str:
    """Return the only candidate that these records have, and log it; else ``prompt``.

    Args:
        records: The first records.
        name: The name of the source in messages.

    Raises:
        RecordError: They have several candidates.
    """
    present = {
        column
        for record in records
        if isinstance(record, Mapping)
        for column in CANDIDATES
        if not is_missing(record.get(column))
    }
    columns = [column for column in CANDIDATES if column in present]
    if len(columns) > 1:
        raise RecordError(
            f"{name}: several columns may contain the prompts: {', '.join(columns)}",
            hint=f"set prompts.column, such as --set prompts.column={columns[0]}",
        )
    if columns and columns[0] != "prompt":
        _log_once(f"{name}: reading prompts from column {columns[0]!r} (prompts.column is not set)")
    return columns[0] if columns else "prompt"


@cache
def _log_once(message: str) -> None:
    """Log a message once per process: a source is read more than once."""
    log.warning(message)
