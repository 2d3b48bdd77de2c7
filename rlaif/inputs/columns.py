"""From a record to a prompt: which columns hold what, and conversations in their usual shapes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlaif.config.prompts import PromptSource
from rlaif.inputs.formats import Broken
from rlaif.records import Failure, Prompt

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}


def make_prompt(record: Any, place: str, source: PromptSource) -> Prompt | Failure:
    """Make a prompt of a record, or say why it is none.

    Args:
        record: As read; a `Broken` where that failed.
        place: Where it was read, for messages; the failure's record id.
        source: Names the columns.
    """
    if isinstance(record, Broken):
        return Failure("read", place, record.kind, record.message)
    if not isinstance(record, Mapping):
        return Failure("read", place, "bad-record", f"expected an object, found {record!r:.60}")
    content = find_column(record, source.column)
    if content is None:
        found = ", ".join(sorted(map(str, record))) or "nothing"
        message = f"no {source.column!r} (found: {found:.200})"
        return Failure("read", place, "missing-column", message)
    given = None if source.id_column is None else find_column(record, source.id_column)
    if source.id_column is not None and (given is None or str(given) == ""):
        return Failure("read", place, "missing-id", f"no {source.id_column!r}")
    if not isinstance(content, str | Sequence):
        message = f"{source.column!r} is neither text nor a list of messages: {content!r:.60}"
        return Failure("read", place, "bad-prompt", message)
    try:
        return Prompt.build(
            content if isinstance(content, str) else _messages(content, source.drop_last_reply),
            id=None if given is None else str(given),
            tags=(*source.tags, *_tags(record, source)),
            source=place,
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
    return {"role": _ROLES.get(role, role), "content": message.get("value")}


def _is_reply(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "assistant"


def _tags(record: Mapping[str, Any], source: PromptSource) -> tuple[str, ...]:
    value = None if source.tags_column is None else find_column(record, source.tags_column)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return tuple(tag.strip() for tag in value.split(",") if tag.strip())
    return tuple(map(str, value)) if isinstance(value, Sequence) else (str(value),)
