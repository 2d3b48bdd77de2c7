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

_TEXTS = ("input", "context", "system", "system_prompt", "history")
_MEDIA = ("image", "images", "audio", "audios", "video", "videos", "files", "attachments")
_JOINED = ("input", "context")
"""What a guessed ``instruction`` is followed by, as in Alpaca and Dolly."""

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
    try:
        content = _content(record, source, column)
        return Prompt.build(
            content if isinstance(content, str) else _messages(content, source.drop_last_reply),
            id=_id(record, source.id_column),
            tags=(*source.tags, *_tags(record, source.tags_column)),
            source=place,
            tools=None if source.tools_column is None else find_column(record, source.tools_column),
        )
    except _InvalidColumnError as problem:
        return Failure("read", place, problem.kind, str(problem))
    except ValueError as problem:
        return Failure("read", place, "bad-prompt", str(problem))


class _InvalidColumnError(ValueError):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _content(record: Mapping[Any, Any], source: PromptSource, column: str) -> str | Sequence[Any]:
    """Return the text or the messages of a prompt, with what follows a guessed instruction."""
    content: str | Sequence[Any] = find_column(record, column)
    if isinstance(content, bytes):
        try:
            content = content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{column!r} is not UTF-8 text") from None
    if is_missing(content) and content != "":
        keys = ", ".join(sorted(map(str, record))) or "nothing"
        raise _InvalidColumnError("missing-column", f"no {column!r} (found: {keys:.200})")
    if not isinstance(content, str | Sequence):
        raise ValueError(f"{column!r} is neither text nor a list of messages: {content!r:.60}")
    beside = [name for name in columns_beside(source) if _has_content(record.get(name))]
    if source.column is None and column == "instruction" and isinstance(content, str):
        joined = [name for name in beside if name in _JOINED and isinstance(record[name], str)]
        for name in joined:
            _log_once(f"{source.name}: {name!r} follows 'instruction' in the prompt")
            content = f"{content}\n\n{record[name]}"
        beside = [name for name in beside if name not in joined]
    if beside:
        raise _InvalidColumnError("unread-column", _how_to_read(beside, column, source))
    return content


def _id(record: Mapping[Any, Any], column: str | None) -> str | None:
    """Return the user's id of a record; None when there is no such column."""
    if column is None:
        return None
    value = find_column(record, column)
    if is_missing(value):
        raise _InvalidColumnError("missing-id", f"no {column!r}")
    text = _as_text(value)
    if text is None or isinstance(value, bool) or value in (math.inf, -math.inf):
        message = f"{column!r} is neither text nor a finite number: {value!r:.60}"
        raise _InvalidColumnError("bad-id", message)
    return text


def columns_beside(source: PromptSource) -> tuple[str, ...]:
    """Return the columns that may not be left out in silence: they look like part of the prompt.

    Where ``prompts.column`` is set, columns of text and tools are left out on purpose.
    """
    names = _MEDIA if source.column is not None else (*_TEXTS, "tools", *_MEDIA)
    spared = (*source.other_columns, *source.ignore_columns)
    return tuple(name for name in names if name not in spared)


def _has_content(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip() not in ("", "[]", "{}", "null")
    return len(value) > 0 if hasattr(value, "__len__") else not is_missing(value)


def _how_to_read(names: Sequence[str], column: str, source: PromptSource) -> str:
    message = (
        f"{', '.join(map(repr, names))} beside {column!r} would be left out; to leave it out on "
        f"purpose, set prompts.ignore_columns: [{', '.join(names)}]"
    )
    if source.column is None and "tools" in names:
        message += "; to read tools, prompts.tools_column: tools"
    return message


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
    if isinstance(value, float | Decimal) and value == 0:
        value = abs(value)  # -0.0 equals 0.0
    # Libraries without missing integers write 7.0 for 7 if the number is missing in other rows.
    if type(value) is float and math.isfinite(value) and value.is_integer():
        return str(int(value))
    return str(value)


def _tags(record: Mapping[Any, Any], column: str | None) -> tuple[str, ...]:
    """Return the tags of a record."""
    value = None if column is None else find_column(record, column)
    if is_missing(value):
        return ()
    if isinstance(value, str):
        return tuple(tag.strip() for tag in value.split(",") if tag.strip())
    values = value if isinstance(value, list | tuple) else [value]
    tags = [_as_text(value) for value in values if not is_missing(value)]
    if None in tags:
        message = f"{column!r} contains a value that is neither text nor a number"
        raise _InvalidColumnError("bad-tags", message)
    return tuple(tag for tag in tags if tag is not None)


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
