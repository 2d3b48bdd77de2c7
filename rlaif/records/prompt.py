"""Prompt: the conversation the student must answer, ending with a user turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlaif.records.identity import canonical_json, content_id
from rlaif.records.tool_use import Message, read_tool_calls, read_tools


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation and what is known about it. Build with `Prompt.build`."""

    id: str
    """The user's own id, or one derived from the content. Unique within a run."""

    messages: tuple[Message, ...]
    """At least one message; the last one is the user's, or the result of a tool."""

    tags: tuple[str, ...] = ()
    """What principles select on with ``applies_to``."""

    source: str = field(default="", compare=False)
    """Where it was read, as file:line; for messages only, never part of identity."""

    @classmethod
    def build(
        cls,
        content: str | Sequence[Mapping[str, Any]],
        *,
        id: str | None = None,
        tags: Sequence[str] = (),
        source: str = "",
        tools: Any = None,
    ) -> "Prompt":
        """Make a prompt from a plain string or a list of chat messages.

        Args:
            content: Text, or messages: with contents of text or of parts that are text, and with
                calls of tools in OpenAI's form.
            id: The user's own id; derived from the content when None or empty.
            tags: What principles select on.
            source: Where it was read.
            tools: The tools there are, as a list of definitions or its JSON text.

        Raises:
            ValueError: Empty text, no messages, a message without role or content or with what
                cannot be carried, or a last message that is neither the user's nor a tool's.
        """
        if isinstance(content, str):
            messages: tuple[Message, ...] = ({"role": "user", "content": content},)
        else:
            messages = tuple(_read_message(message) for message in content)
        if not messages:
            raise ValueError("the prompt has no messages")
        last = messages[-1]
        if last["role"] not in ("user", "tool"):
            raise ValueError(f"the last message must be the user's, not {last['role']!r}'s")
        if last["role"] == "user" and not last["content"].strip():
            raise ValueError("the prompt is empty")
        if all(message["role"] != "user" for message in messages):
            raise ValueError("the conversation has no message of the user")
        if defined := read_tools(tools):
            messages = ({**messages[0], "tools": defined}, *messages[1:])
        try:
            canonical_json([id, messages, list(tags)])
        except TypeError:
            raise ValueError("half a character (a lone surrogate) in a text") from None
        return cls(id or content_id("prompt", messages), messages, tuple(tags), source)

    @property
    def text(self) -> str:
        """The last user message."""
        return next(m["content"] for m in reversed(self.messages) if m["role"] == "user")

    def with_system(self, system: str) -> tuple[Message, ...]:
        """Return the messages under a system message.

        A conversation that brings its own keeps it, below ours in the same message: most chat
        templates allow only one.
        """
        if not system:
            return self.messages
        first, *rest = self.messages
        if first["role"] != "system":
            return ({"role": "system", "content": system}, *self.messages)
        return ({**first, "content": f"{system}\n\n{first['content']}"}, *rest)


_NOT_CARRIED = ("audio", "documents", "file", "files", "image", "images", "video", "videos")
"""What stands beside the text of a message and is part of what is said."""


def _read_message(message: Any) -> Message:
    """Read one message; what stands beside it and is not said, such as a time, is left out."""
    if not isinstance(message, Mapping):
        raise ValueError(f"a message must be a mapping with role and content, not {message!r:.60}")
    if lost := next((key for key in _NOT_CARRIED if message.get(key)), None):
        raise ValueError(f"a message holds {lost}: only text can be carried")
    calls = read_tool_calls(message.get("tool_calls") or message.get("function_call"))
    role, content = message.get("role"), _read_content(message.get("content"))
    if content is None and calls:
        content = ""
    if not isinstance(role, str) or content is None:
        raise ValueError("every message needs a role and a content, both text")
    read: Message = {"role": "tool" if role == "function" else role, "content": content}
    if calls:
        if role != "assistant":
            raise ValueError(f"only the assistant calls tools, not {role!r}")
        read["tool_calls"] = calls
    if name := _read_text(message, "name"):
        read["name"] = name
    if answered := _read_text(message, "tool_call_id"):
        read["tool_call_id"] = answered
    return read


def _read_text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"the {key} of a message must be text, not {value!r:.60}")
    return value or ""


def _read_content(content: Any) -> str | None:
    """Return the text of a content; parts of text are joined as they are."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return None
    return "".join(map(_read_part, content))


def _read_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in ("text", "input_text", "output_text"):
        raise ValueError(f"a message holds a part of type {kind!r}: only text can be carried")
    text = part.get("text")
    if not isinstance(text, str):
        raise ValueError(f"a part of type {kind!r} has no text")
    return text
