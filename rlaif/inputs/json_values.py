"""JSON without loss: integers of any length, NaN, numbers as written, and keys given twice.

`orjson` is fast and reads integers beyond 64 bits as floats, refuses NaN, and keeps the last of
two equal keys without a word. So it reads only what it reads exactly; the rest is left to `json`.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from rlaif.inputs.records import Broken, is_unicode

_CHUNK = 1 << 20

_NOT_EXACT = re.compile(rb"[\d.]{16}|\.\d*0(?!\d)|\d[eE]")
"""Digits that a float may not hold, and spellings such as 1.50 and 1e3 that it does not keep."""

_KEY = re.compile(rb'"\s*:')


class WrittenFloat(float):
    """A float that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> "WrittenFloat":
        """Read a float."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


class NoListError(ValueError):
    """A JSON file whose content is not a list."""


def read_json(line: bytes) -> Any:
    """Return the value that a line of JSON holds; a `Broken` where that cannot be done."""
    try:
        value = orjson.loads(line)
        if not _NOT_EXACT.search(line) and _count_keys(value) == len(_KEY.findall(line)):
            return value
    except orjson.JSONDecodeError:
        pass  # NaN, which Python writes; or broken, which `json` explains as well
    decoder = _Decoder()
    try:
        value = decoder.decode(line.decode())
    except UnicodeDecodeError:
        return Broken("bad-json", "not JSON: not UTF-8 text")
    except (ValueError, RecursionError) as problem:
        return Broken("bad-json", f"not JSON: {_why(problem)}")
    return _sound(value, decoder)


class _Decoder(json.JSONDecoder):
    """Notes the first key that an object gives twice."""

    def __init__(self) -> None:
        super().__init__(parse_float=WrittenFloat, object_pairs_hook=self._object)
        self.twice: str | None = None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs) and self.twice is None:
            keys = [key for key, _ in pairs]
            self.twice = next(key for key in keys if keys.count(key) > 1)
        return found


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values()))
    return sum(map(_count_keys, value)) if isinstance(value, list) else 0


def _sound(value: Any, decoder: _Decoder) -> Any:
    if decoder.twice is not None:
        return Broken("bad-json", f"the key {decoder.twice!r} is given twice")
    if not _all_unicode(value):
        return Broken("bad-json", "half a character (a lone surrogate) in a text")
    return value


def _all_unicode(value: Any) -> bool:
    if isinstance(value, str):
        return is_unicode(value)
    if isinstance(value, Mapping):
        return all(is_unicode(key) and _all_unicode(item) for key, item in value.items())
    return all(map(_all_unicode, value)) if isinstance(value, list) else True


def _why(problem: Exception) -> str:
    return "nested too deeply" if isinstance(problem, RecursionError) else str(problem)


class JsonItems:
    """The items of a JSON list, of which one part at a time is in memory.

    Raises:
        NoListError: It is not a list.
        ValueError: It breaks off, or is not JSON.
    """

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self._text = ""
        self._at = 0

    def __iter__(self) -> Iterator[Any]:
        if self._next() != "[":
            raise NoListError
        self._at += 1
        if self._next() != "]":
            yield self._item()
            while (mark := self._next()) == ",":
                self._at += 1
                yield self._item()
            if mark != "]":
                raise ValueError(f"expected a comma or the end of the list, found {mark!r}")
        self._at += 1
        if left := self._next():
            raise ValueError(f"something follows the list: {left!r}")

    def _more(self) -> bool:
        """Read on; at least as much as there is, so that a long item is not tried too often."""
        chunk = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def _next(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _item(self) -> Any:
        self._next()
        while True:
            decoder = _Decoder()
            try:
                item, end = decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as problem:
                if not self._more():
                    raise ValueError(problem.msg) from None
                continue
            except RecursionError:
                raise ValueError("nested too deeply") from None
            # What ends where the text ends may go on in the next part: a number, say.
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return _sound(item, decoder)
