"""What a server says about a failure: its words, its codes and the fields it names.

Every server has its own shape: one object, a list of them, an object inside a message, JSON or
Python's spelling of it inside text. All are read into the same three things. Pure.
"""

import ast
import json
from dataclasses import dataclass, field
from typing import Any

import orjson

MOST_WORDS = 300
"""Characters of a server's words that are shown."""

_MOST_READ = 20_000
_DEEPEST = 8
_SHORTEST_ECHO = 12
_TEXT_KEYS = ("message", "msg", "detail", "error", "description", "errors", "details")
_CODE_KEYS = ("code", "type", "status", "error_type", "error_code", "reason")
_FIELD_KEYS = ("param", "field")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an answer other than a success says."""

    words: str
    """One line; long, and with whatever secret the server repeats: `shorten` it last."""

    code: str = ""
    """Every code, type and status it gives, in lower case, with spaces between."""

    fields: tuple[str, ...] = ()
    """Fields of the request that it names apart from its words."""


@dataclass(slots=True)
class _Found:
    codes: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)


def explain(body: bytes) -> Explanation:
    """Read the body of an answer other than a success."""
    text = body[:_MOST_READ].decode("utf-8", "replace")
    try:
        payload = load_json(body) if len(body) <= _MOST_READ else text
    except ValueError:
        payload = text
    return explain_value(payload)


def explain_value(payload: Any) -> Explanation:
    """Read an error that is JSON already."""
    found = _Found()
    text = _words(payload, found, 0)
    if not text and payload:
        text = json.dumps(payload, default=str)
    # It is logged and shown: nothing in it may move a cursor or turn text around.
    plain = "".join(one if one.isprintable() else " " for one in text[:_MOST_READ])
    words = " ".join(plain.split()) or "no explanation"
    codes, fields = dict.fromkeys(found.codes), dict.fromkeys(found.fields)
    return Explanation(words, " ".join(codes).lower(), tuple(fields))


def shorten(words: str) -> str:
    """Cut words to what is shown. Do it after secrets were taken out, or a part of one is left."""
    return words if len(words) <= MOST_WORDS else words[: MOST_WORDS - 1] + "…"


def without_echo(words: str, texts: list[str]) -> str:
    """Take out what a server repeats of the request, which says nothing about the failure."""
    plain = [" ".join(text.split())[:_MOST_READ] for text in texts]
    size = _SHORTEST_ECHO
    known = {text[at : at + size] for text in plain for at in range(len(text) - size + 1)}
    kept, echoed = [], 0  # echoed: up to where the words are repeated
    for at, character in enumerate(words):
        if words[at : at + size] in known:
            if at >= echoed:
                kept.append("…")
            echoed = at + size
        if at >= echoed:
            kept.append(character)
    return "".join(kept)


def load_json(body: bytes) -> Any:
    """Read JSON as it comes from servers; invalid Unicode becomes U+FFFD.

    Raises:
        ValueError: It is not valid JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:  # half a surrogate pair in one text must not lose the others
        return _mended(json.loads(body.decode("utf-8", "replace"), parse_constant=lambda _: None))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def _words(value: Any, found: _Found, depth: int) -> str:
    if depth > _DEEPEST:
        return ""
    if isinstance(value, str):
        return _unfold(value, found, depth)
    if isinstance(value, list | tuple):
        parts = [part for item in value[:5] if (part := _words(item, found, depth + 1))]
        return "; ".join(dict.fromkeys(parts))
    if not isinstance(value, dict):
        return ""
    found.codes += [str(value[key]) for key in _CODE_KEYS if isinstance(value.get(key), str | int)]
    found.fields += [value[key] for key in _FIELD_KEYS if isinstance(value.get(key), str)]
    place = value.get("loc")
    where = ""
    if isinstance(place, list | tuple):  # how pydantic names a field: ["body", "seed"]
        where = ".".join(str(step) for step in place if step != "body")
        found.fields.append(where)
    inner = value.get("innererror")
    if isinstance(inner, dict):
        _words(inner, found, depth + 1)
    for key in _TEXT_KEYS:
        text = _words(value.get(key), found, depth + 1)
        if text:
            return f"{where}: {text}" if where and key in ("msg", "message") else text
    return ""


def _unfold(text: str, found: _Found, depth: int) -> str:
    """Put what JSON or Python inside a text says in its place."""
    start = min((at for at in (text.find("{"), text.find("[{")) if at >= 0), default=-1)
    end = max(text.rfind("}"), text.rfind("}]") + 1)
    if start < 0 or end <= start or end - start > _MOST_READ:
        return text
    inside = text[start : end + 1]
    value: Any = None
    try:
        value = orjson.loads(inside)
    except orjson.JSONDecodeError:
        try:
            value = ast.literal_eval(inside)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return text
    said = _words(value, found, depth + 1) if isinstance(value, dict | list) else ""
    if not said:
        return text
    before = text[:start].rstrip("b'\" ")
    return f"{before} {said}{text[end + 1 :].strip(chr(39) + chr(34))}".strip()
