"""What readers yield: records with their places, and records that cannot be read."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read."""

    kind: str
    message: str


Numbered = tuple[int, Any]
"""A record and its place in the file from 1: the line it starts in, or its number among them."""


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate, which JSON can spell and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
