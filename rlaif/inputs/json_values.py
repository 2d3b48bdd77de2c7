"""JSON without loss: integers of any length, NaN, numbers as written, and duplicate keys.

`orjson` is fast, but reads integers beyond 64 bits as floats, rejects NaN, and silently keeps the
last of two equal keys. So it reads only lines that it reads exactly; `json` reads the others.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from rlaif.inputs.files import Broken, is_unicode

_CHUNK = 1 << 20

_NOT_EXACT = re.compile(rb"[\d.]{16}|\.\d*0(?!\d)|\d[eE]")
"""Numbers that a float may round, and spellings such as 1.50 and 1e3 that it loses."""

_KEY = re.compile(rb'"\s*:')


class WrittenFloat(float):
    """A float with its original spelling."""

    text: str

    def __new__(cls, text: str) -> "WrittenFloat":
        """Parse a float."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


class NoListError(ValueError):
    """A JSON file whose content is not a list."""


def read_json(line: bytes) -> Any:
    """Return the value of a line of JSON; a `Broken` if it is invalid."""
    try:
        value = orjson.loads(line)
        if not _NOT_EXACT.search(line) and _count_keys(value) == len(_KEY.findall(line)):
            return value
    except orjson.JSONDecodeError:
        pass  # NaN, which Python writes; or invalid: then `json` gives the reason
    decoder = _Decoder()
    try:
        value = decoder.decode(line.decode())
    except UnicodeDecodeError:
        return Broken("bad-json", "not JSON: not UTF-8 text")
    except (ValueError, RecursionError) as problem:
        return Broken("bad-json", f"not JSON: {_why(problem)}")
    return _sound(value, decoder)


class _Decoder(json.JSONDecoder):
    """Records the first duplicate key of an object."""

    def __init__(self) -> None:
        super().__init__(parse_float=WrittenFloat, object_pairs_hook=self._object)
        self.twice: str | None = None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) < len(pairs) and self.twice is None:
            keys = [key for key, _ in pairs]
            self.twice = next(key for key in keys if keys.count(key) > 1)
        return data


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
    """The items of a JSON list; only part of it is in memory at a time.

    Raises:
        NoListError: It is not a list.
        ValueError: It is cut off or invalid.
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
        """Read more; at least as much as is in memory, so that long items are parsed few times."""
        chunk = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def _next(self) -> str:
        """Return the next character that is not white space; empty at the end."""
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
            # An item at the end of the text, such as a number, may continue in the next part.
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return _sound(item, decoder)
