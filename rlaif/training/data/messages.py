"""Conversations in data sets: every row looked at once, before a template or tokenizer sees it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets import Dataset

from rlaif.errors import InputError

Turn = tuple[str, str]


def check_texts(name: str, dataset: Dataset, *columns: str, optional: bool = False) -> None:
    """Make sure that every value is a text, or messages with a role and a content.

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


def take_prompts_off(name: str, dataset: Dataset, replies: Sequence[str]) -> tuple[Dataset, bool]:
    """Take the prompt off replies that are whole conversations.

    A reply then starts with the assistant's words. A system message before a prompt that is a
    string becomes part of the prompt.

    Returns:
        The rows, and whether anything was taken off.

    Raises:
        InputError: A reply starts with a user's or system's message that is not the prompt.
    """
    if not any(_opens(dataset[column]) for column in replies):
        return dataset, False
    rows: list[dict[str, Any]] = []
    for place, row in enumerate(dataset, start=1):
        said = {column: _turns(row[column], "assistant") for column in replies}
        prompt = _turns(row["prompt"], "user")
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
        texts = {column: _messages(turns) for column, turns in {"prompt": prompt, **said}.items()}
        rows.append({**row, **texts})
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
    for number, message in enumerate(value, start=1):
        if not isinstance(message, Mapping):
            return f"message {number} is {message!r:.40}"
        for key in ("role", "content"):
            if key not in message:
                return f"message {number} has no {key}, only {', '.join(message)}"
            if not isinstance(message[key], str):
                return f"message {number} has a {key} that is not a text: {message[key]!r:.40}"
    return ""


def _opens(values: Iterable[Any]) -> bool:
    return any(isinstance(value, list) and _asks(_turns(value, "")) for value in values)


def _asks(turns: Sequence[Turn]) -> bool:
    return turns[0][0] in ("user", "system")


def _turns(value: Any, role: str) -> list[Turn]:
    if isinstance(value, str):
        return [(role, value)]
    return [(message["role"], message["content"]) for message in value]


def _head(prompt: list[Turn], replies: Sequence[list[Turn]]) -> list[Turn]:
    """Return what all replies start with, up to the end of the prompt; empty if they do not."""
    first = replies[0]
    for end in range(len(prompt), len(first) + 1):
        head = first[:end]
        if head[-len(prompt) :] == prompt:
            return head if all(reply[:end] == head for reply in replies) else []
    return []


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]
