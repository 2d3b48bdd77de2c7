"""Text that files and terminals accept: valid Unicode, and printable text on one line."""

import re
from typing import Any

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tabs and ends of lines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of text
    "\u2028\u2029\ud800-\udfff]"  # other ends of lines, halves of characters
)


def fix_text(text: str) -> str:
    """Join split surrogate pairs and replace lone surrogates by U+FFFD; other text is unchanged.

    Models and servers produce them (half an emoji at a token limit), and one must not prevent the
    writing of a thousand valid rows.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def fix_json(value: Any) -> Any:
    """Apply `fix_text` to every string in a JSON-compatible value."""
    if isinstance(value, str):
        return fix_text(value)
    if isinstance(value, dict):
        return {fix_text(key): fix_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fix_json(item) for item in value]
    return value


def safe_text(text: str) -> str:
    r"""Return text that shows and does nothing else: what drives a terminal becomes an escape.

    Whatever a server, a model or a file of another's says may clear the screen, set the title or
    the clipboard, or turn the direction of text. ``\x1b`` is printed as these four characters. Tabs
    and line ends stay.
    """
    return _UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def safe_json(data: bytes) -> bytes:
    r"""Return the same JSON with those characters as ``\uXXXX``; it reads as the same value."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode()).encode()


def one_line(text: str, most: int) -> str:
    """Safe text on one line, cut to so many characters."""
    line = safe_text(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
