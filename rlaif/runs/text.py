"""Text as files and terminals can hold it: whole characters, and on one line where that is all."""

from typing import Any


def mend_text(text: str) -> str:
    """Join split surrogate pairs and replace lone surrogates by U+FFFD; other text is unchanged.

    Models and servers do produce them (half an emoji at a token limit), and one must not stop the
    writing of a thousand good rows.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mend_json(value: Any) -> Any:
    """The same for every string in a JSON-compatible value."""
    if isinstance(value, str):
        return mend_text(value)
    if isinstance(value, dict):
        return {mend_text(key): mend_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mend_json(item) for item in value]
    return value


def one_line(text: str, most: int) -> str:
    """Printable text on one line, cut to so many characters.

    Control characters could rewrite the terminal, so each becomes U+FFFD.
    """
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "\ufffd" for c in line)
    return line if len(line) <= most else f"{line[: most - 1]}…"
