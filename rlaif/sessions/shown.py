"""Showing how far something is, part by part."""

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def unseen(what: str, done: int, total: int) -> None:
    """Show nothing."""
