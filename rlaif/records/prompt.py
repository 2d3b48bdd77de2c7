"""Prompt: the conversation the student must answer, ending with a user turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from rlaif.records.identity import content_id


class Message(TypedDict):
    """One turn of a conversation, in the shape every chat template and API accepts."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation and what is known about it. Build with `Prompt.build`."""

    id: str
    """The user's own id, or one derived from the content. Unique within a run."""

    messages: tuple[Message, ...]
    """At least one message; the last one is the user's."""

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
    ) -> "Prompt":
        """Make a prompt from a plain string or a list of chat messages.

        Raises:
            ValueError: Empty text, no messages, a message without role or content, or a last
                message that is not the user's.
        """
        if isinstance(content, str):
            messages: tuple[Message, ...] = ({"role": "user", "content": content},)
        else:
            messages = tuple(_read_message(message) for message in content)
        if not messages:
            raise ValueError("the prompt has no messages")
        if messages[-1]["role"] != "user":
            raise ValueError(f"the last message must be the user's, not {messages[-1]['role']!r}'s")
        if not messages[-1]["content"].strip():
            raise ValueError("the prompt is empty")
        return cls(id or content_id("prompt", messages), messages, tuple(tags), source)

    @property
    def text(self) -> str:
        """The last user message."""
        return self.messages[-1]["content"]

    def with_system(self, system: str) -> tuple[Message, ...]:
        """Return the messages under a system message.

        A conversation that brings its own keeps it, below ours in the same message: most chat
        templates allow only one.
        """
        if not system:
            return self.messages
        own, rest = "", self.messages
        if rest[0]["role"] == "system":
            own, rest = f"\n\n{rest[0]['content']}", rest[1:]
        return ({"role": "system", "content": f"{system}{own}"}, *rest)


def _read_message(message: Mapping[str, Any]) -> Message:
    if not isinstance(message, Mapping):
        raise ValueError(f"a message must be a mapping with role and content, not {message!r:.60}")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError("every message needs a role and a content, both text")
    return {"role": role, "content": content}
