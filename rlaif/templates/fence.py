r"""Fences: show text that a model or a user wrote so that it cannot pass for our own instructions.

Two steps, both deterministic. *Neutralising* removes what a tokenizer or a reader could mistake for
the structure of a conversation: control characters, special tokens, role headers at the start of a
line. *Fencing* puts the neutralised text between an opening and a closing tag whose name ends in
digits that occur in none of the texts shown, so nothing inside can close the fence.

Neutralising changes only this:

- ``\r\n``, ``\r``, U+2028 and U+2029 become ``\n``; lone surrogates become U+FFFD;
- other control characters, bidirectional overrides, zero-width spaces and tag characters are
  removed (joiners stay: scripts and emoji need them);
- a special token is broken by one space after its first character: ``< |im_start|>``, ``< s>``,
  ``[ INST]``, ``< < SYS>>``;
- a line that starts like a turn (``Human:``, ``### Assistant``) gets ``> `` in front, as a quote.

Neutralising twice is neutralising once.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from rlaif.records import content_id

_DIGITS = 6
"""Hexadecimal digits of a fence; more only for a text that contains every attempt."""

_LINE_ENDS = re.compile("\r\n|[\r\u2028\u2029]")
_CONTROLS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    "\U000e0000-\U000e007f"
)
_GONE = re.compile(f"[{_CONTROLS}]")
_SURROGATE = re.compile("[\ud800-\udfff]")

_ANGLE_NAMES = (
    r"s|bos|eos|eot|eom|pad|unk|mask|cls|sep|sys|think|thinking|tools?|tool_\w+|image|img|"
    r"im_\w+|fim_\w+|function_calls|(?:start|end|begin|beginning|eos|bos)_of_\w+|"
    r"(?:unused|extra_id_|special_|reserved_)\w*|0x[0-9a-f]{2}"
)
_SQUARE_NAMES = (
    r"inst|sys|system|system_prompt|available_tools|tool_\w+|bos|eos|cls|sep|pad|mask|unk|gmask"
)
_SPECIAL = re.compile(
    r"[<＜](?=[|｜])"  # <|im_start|>, <|eot_id|>, <｜User｜>
    rf"|[<＜](?=/?(?:{_ANGLE_NAMES})[>＞])"  # <s>, </think>, <start_of_turn>, <unused7>
    r"|[<＜](?=[<＜]/?sys)"  # <<SYS>>
    rf"|\[(?=/?(?:{_SQUARE_NAMES})\])",  # [INST], [/INST]
    re.IGNORECASE,
)
_ROLES = r"(?:human|user|assistant|system|developer|tool|model|ai|bot|judge|instructions?|response)"
_OPENS_TURN = rf"(?=[ \t]*(?:#{{1,6}}[ \t]*{_ROLES}\b|[*_]{{0,2}}{_ROLES}[*_]{{0,2}}[ \t]*[:：]))"
_TURN = re.compile("\n" + _OPENS_TURN, re.IGNORECASE)
"""Anchored at a newline: much faster to search for than the start of a line."""

_CACHED = 64
"""Texts to cache: both orders of a comparison are rendered one after the other."""

_NOT_TAG = re.compile(r"[^a-z0-9_]+")


class Fenced(str):
    """Text that is already inside its fence."""

    __slots__ = ()


@lru_cache(_CACHED)
def neutralise(text: str) -> str:
    """Remove what could pass for the structure of a conversation (see the top of this file)."""
    # Cheap tests first: the patterns are the most expensive part of judging.
    plain = text
    if not plain.replace("\n", "").isprintable():  # controls, surrogates and overrides are not
        plain = _LINE_ENDS.sub("\n", plain)
        plain = _SURROGATE.sub("\ufffd", _GONE.sub("", plain))
    if "<" in plain or "[" in plain or "＜" in plain:
        plain = _SPECIAL.sub(r"\g<0> ", plain)
    if ":" in plain or "#" in plain or "：" in plain:
        plain = _TURN.sub("\n> ", f"\n{plain}")[1:]
    return plain


def fence(text: str, tag: str, *, shown: str = "") -> Fenced:
    """Neutralise a text and put it between tags that it cannot close.

    Args:
        text: What a model or a user wrote.
        tag: What it is, such as ``response_a``; reduced to lower-case letters, digits and ``_``.
        shown: All other texts of the same render, neutralised; the digits occur in none of them.

    Returns:
        ``<tag_digits>``, the neutralised text and ``</tag_digits>``, each on a new line. The
        digits depend on the text alone, so the same text has the same fence everywhere.
    """
    inside = neutralise(text)
    name = _tag_name(tag)
    attempt = 0
    while True:
        digits = _digits(inside, attempt)
        if digits not in inside and digits not in shown:
            break
        attempt += 1
    return Fenced(f"<{name}_{digits}>\n{inside}\n</{name}_{digits}>")


@lru_cache(_CACHED)
def _digits(inside: str, attempt: int) -> str:
    return content_id("fence", inside, attempt)[: _DIGITS + attempt // 8]


@lru_cache(_CACHED)
def _tag_name(tag: str) -> str:
    return _NOT_TAG.sub("_", tag.lower()).strip("_") or "text"


def all_texts(values: object) -> list[str]:
    """Return every text inside nested mappings and sequences."""
    texts: list[str] = []
    pending = [values]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, (list, tuple)):
            pending.extend(value)
        elif isinstance(
            value, (dict, Mapping)
        ):  # dict first: isinstance of an abstract class is slow
            pending.extend(value)
            pending.extend(value.values())
    return texts
