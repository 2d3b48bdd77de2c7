"""Parsing: a verdict read from a judge's words.

Servers that can are made to reply from the menu. Others write what they like, so the form is read
tolerantly and the place strictly: only the last line counts, and all of it must be the verdict. A
reply that names a choice somewhere and then ends in something else has not decided.
"""

import re
from collections.abc import Sequence

import orjson

_KEYS = ("answer", "better", "choice", "preference", "verdict", "winner")
"""Keys under which judges put a verdict when they reply in JSON."""

_NOUN = r"(?:answer|choice|option|preference|response|verdict|winner)"
_LEAD = (
    r"(?:so|thus|therefore|overall|final|finally|in conclusion|the|my|is|i choose|i prefer|"
    rf"i pick|better|best|preferred|{_NOUN})"
)
_VERDICT = re.compile(
    rf"(?:{_LEAD}[\s,:=\-]*)*"
    r"(?P<name>[a-z0-9]+)"
    rf"(?:\s+is\s+(?:the\s+)?(?:better|best|preferred)(?:\s+(?:one|{_NOUN}))?)?",
    re.IGNORECASE,
)
_ORNAMENT = re.compile(r"[*_`#>\[\](){}\"'“”‘’.!]+")
_CODE = re.compile(r"```[a-z]*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
_REFUSAL = re.compile(
    r"\W*(?:(?:i(?:['’]m| am) )?(?:very |so )?sorry\b"
    r"|i(?:['’]m| am) (?:not able|unable|not comfortable|not going to)\b"
    r"|i (?:can(?:no|['’])t|cannot|won['’]t|will not|must decline|decline)\b"
    r"|unfortunately,? i\b|as an ai\b)",
    re.IGNORECASE,
)


def parse_choice(text: str, menu: Sequence[str]) -> str | None:
    """Return the entry of the menu that the words decide for, or None.

    Args:
        text: The whole reply.
        menu: The allowed verdicts, such as ("A", "B"); case does not matter.
    """
    stripped = text.strip()
    blocks = _CODE.findall(stripped)
    inside = blocks[-1] if blocks and stripped.endswith("```") else stripped
    if inside.lstrip().startswith("{"):
        return _on_menu(_from_json(inside), menu)
    lines = [line for line in inside.splitlines() if line.strip()]
    if not lines:
        return None
    plain = _ORNAMENT.sub(" ", lines[-1]).strip(" \t,:;-")
    match = _VERDICT.fullmatch(" ".join(plain.split()))
    return _on_menu(match["name"] if match else None, menu)


def is_refusal(text: str) -> bool:
    """Whether a reply opens like one that declines to answer."""
    return _REFUSAL.match(text) is not None


def _from_json(text: str) -> str | None:
    """The value under the one known key of a JSON object; None when there are several or none."""
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(read, dict):
        return None
    found = [value for key, value in read.items() if key.lower() in _KEYS]
    if len(found) != 1 or not isinstance(found[0], str):
        return None
    match = _VERDICT.fullmatch(" ".join(_ORNAMENT.sub(" ", found[0]).split()))
    return match["name"] if match else None


def _on_menu(name: str | None, menu: Sequence[str]) -> str | None:
    if name is None:
        return None
    return next((entry for entry in menu if entry.casefold() == name.casefold()), None)
