"""Turns of a conversation: what models differ in before a request and after a reply. Pure.

Some take no system role, and some write down what they think before they answer.
"""

import re
from collections.abc import Sequence

from rlaif.records import Message

_OPENS = re.compile(
    r"\s*(?:<(?P<tag>think|thinking|thought|reasoning)>|(?P<bracket>\[THINK\])"
    r"|(?P<channel><\|channel\|>(?:analysis|thought)(?:<\|message\|>|\n)))"
)
_CLOSES = re.compile(r"</(?:think|thinking)>|\[/THINK\]")
"""What ends reasoning that the chat template began: the reply itself does not show its start."""

_FINAL = re.compile(r"<\|channel\|>final<\|message\|>|<channel\|>")


def fold_system(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the conversation with its system text at the head of the first user turn."""
    if not messages or messages[0]["role"] != "system":
        return messages
    system, *rest = messages
    for place, message in enumerate(rest):
        if message["role"] == "user":
            contents: tuple[object, ...] = (system["content"], message["content"])
            if not all(isinstance(content, str) for content in contents):
                return messages
            text = f"{system['content']}\n\n{message['content']}"
            rest[place] = {**message, "content": text}
            return rest
    return [{"role": "user", "content": system["content"]}, *rest]


def opens_reasoning(text: str) -> bool:
    """Return whether a reply begins with what the model thinks."""
    return _OPENS.match(text) is not None


def split_reasoning(text: str) -> tuple[str, str]:
    """Return a reply's own text, and what the model thought before it; the latter may be empty.

    Reasoning that was cut off leaves no reply at all.
    """
    if "<" not in text and "[" not in text:  # most replies
        return text, ""
    opened = _OPENS.match(text)
    if opened is None:
        closed = _CLOSES.search(text)
        if closed is None or "<think" in text[: closed.start()]:
            return text, ""
        return text[closed.end() :].lstrip(), text[: closed.start()].strip()
    rest = text[opened.end() :]
    if opened["tag"]:
        thought, closed_by, reply = rest.partition(f"</{opened['tag']}>")
    elif opened["bracket"]:
        thought, closed_by, reply = rest.partition("[/THINK]")
    else:
        final = _FINAL.search(rest)
        if final is None:
            return "", rest.strip()
        thought, closed_by, reply = rest[: final.start()], final[0], rest[final.end() :]
    thought = thought.removesuffix("<|end|><|start|>assistant").strip()
    return (reply.lstrip() if closed_by else ""), thought
