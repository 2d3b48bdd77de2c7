"""Text that files and terminals accept: valid Unicode, and printable text on one line."""

from typing import Any


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


def one_line(text: str, most: int) -> str:
    """Return printable text on one line, cut to ``most`` characters.

    Control characters could rewrite the terminal, so each becomes U+FFFD.
    """
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "\ufffd" for c in line)
    return line if len(line) <= most else f"{line[: most - 1]}…"
