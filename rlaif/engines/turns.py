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
_CLOSES = re.compile(r"(?<![`'\"])(?:</(?:think|thinking)>|\[/THINK\])(?!\w*[ \t`'\"])")
"""What ends reasoning that the chat template began: the reply itself does not show its start. In
quotation marks, or in the middle of a line, it is mentioned and ends nothing."""

_CODE = re.compile(r"```|`")
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

    Reasoning is what stands between an opening tag at the very start and the tag that closes it,
    tags inside counted; several such blocks may follow each other. Where the chat template opened
    it, it ends at the first closing tag, unless one was opened before that or the tag is only
    mentioned: in code, in quotation marks or in the middle of a line. Reasoning that was cut off
    leaves no reply at all.
    """
    if "<" not in text and "[" not in text:  # most replies
        return text, ""
    if _OPENS.match(text) is None:
        closed = _CLOSES.search(text)
        before = text[: closed.start()] if closed else ""
        if closed is None or "<think" in before or "[THINK]" in before or _in_code(before):
            return text, ""
        return text[closed.end() :].lstrip(), before.strip()
    thoughts = []
    reply = text
    while opened := _OPENS.match(reply):
        rest = reply[opened.end() :]
        start, end = _end_of(rest, opened)
        thoughts.append(rest[:start].removesuffix("<|end|><|start|>assistant").strip())
        reply = rest[end:]
    return reply.lstrip(), "\n\n".join(filter(None, thoughts))


def _in_code(before: str) -> bool:
    """Return whether a text ends inside code."""
    marks = _CODE.findall(before)
    return marks.count("```") % 2 == 1 or before.rpartition("\n")[2].count("`") % 2 == 1


def _end_of(rest: str, opened: re.Match[str]) -> tuple[int, int]:
    """Return where the tag begins and ends that closes reasoning; the end of the text for none."""
    cut_off = len(rest), len(rest)
    if opened["channel"]:
        final = _FINAL.search(rest)
        return final.span() if final else cut_off
    opens, closes = "[THINK]", "[/THINK]"
    if opened["tag"]:
        opens, closes = f"<{opened['tag']}>", f"</{opened['tag']}>"
    depth, last = 1, cut_off
    for tag in re.finditer(f"{re.escape(opens)}|{re.escape(closes)}", rest):
        depth += 1 if tag[0] == opens else -1
        if tag[0] == closes:
            last = tag.span()
        if depth == 0:
            break
    return last  # where one was opened too often, the last that closes
