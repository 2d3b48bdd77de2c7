"""One round: what it started from, what it made, and whether that was promoted.

A round's record is written once, when it is decided; a round without a record is not finished and
is gone through again, each of its parts going on where it stopped.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

from rlaif.errors import RunError
from rlaif.records.plain import Plain


@dataclass(frozen=True, slots=True)
class Round(Plain):
    """A decided round."""

    number: int
    """From 1."""

    parent: str
    """The model the round started from: the last promoted one."""

    checkpoint: str
    """What it trained; empty when there was nothing to train on."""

    promoted: bool
    why: str
    """The reason in one line, with the figures."""

    pairs: int
    """Preference pairs it trained on."""

    change: float | None
    """Measured on held-out prompts, round's checkpoint minus parent; None when not measured."""

    low: float | None
    high: float | None
    """Ends of the 95 % interval of ``change``."""

    def summary(self) -> str:
        """One line for a person."""
        verdict = "promoted" if self.promoted else "stayed"
        return f"round {self.number}: {verdict}: {self.why}"


def read_round(path: Path) -> Round | None:
    """Read a round's record; None when the round was not decided yet.

    Raises:
        RunError: The record is damaged.
    """
    try:
        return Round(**orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, TypeError):
        raise RunError(
            f"{path}: damaged", hint="delete the file: the round is decided again from its parts"
        ) from None


def decide(
    change: float | None,
    low: float | None,
    high: float | None,
    *,
    direction: Literal["up", "down"],
    min_gain: float,
) -> tuple[bool, str]:
    """Return whether a measured change is a gain beyond its interval, and why in words.

    A gain counts when the whole 95 % interval of the paired difference lies beyond ``min_gain`` on
    the better side. Not measured, or an interval that reaches back over it, means staying.
    """
    if change is None or low is None or high is None:
        return False, "the measure could not be taken on enough prompts"
    figures = f"{change:+.3f} [{low:+.3f}, {high:+.3f}]"
    gained = low > min_gain if direction == "up" else high < -min_gain
    if gained:
        return True, f"improved beyond its interval: {figures}"
    threshold = f"{min_gain if direction == 'up' else -min_gain:g}"
    return False, f"no gain beyond its interval: {figures}, wanted {direction} past {threshold}"
