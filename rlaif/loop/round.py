"""One round: its parent model, its checkpoint, and whether the checkpoint was promoted.

A round's record is written once, when it is decided. A round without a record is unfinished: it
runs again, and each of its parts resumes.
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
    """The checkpoint it trained; empty if there were no pairs to train on."""

    promoted: bool
    why: str
    """The reason in one line, with the figures."""

    pairs: int
    """Number of preference pairs it trained on."""

    change: float | None
    """Measured on held-out prompts, checkpoint minus parent, or for a win rate the rate minus one
    half; None if not measured."""

    low: float | None
    high: float | None
    """Ends of the 95 % interval of ``change``."""

    def summary(self) -> str:
        """Return the decision in one line of text."""
        verdict = "promoted" if self.promoted else "stayed"
        return f"round {self.number}: {verdict}: {self.why}"


def read_round(path: Path) -> Round | None:
    """Read a round's record; None if the round is not decided yet.

    Raises:
        RunError: The record is damaged.
    """
    try:
        return Round(**orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, TypeError):
        raise RunError(
            f"{path}: damaged",
            hint="delete the file; the round is then decided again from its parts",
        ) from None


def decide(
    change: float | None,
    low: float | None,
    high: float | None,
    *,
    direction: Literal["up", "down"],
    min_gain: float,
) -> tuple[bool, str]:
    """Return whether a measured change is a significant gain, and the reason in words.

    It is one if the whole 95 % interval of the paired difference is beyond ``min_gain`` on the
    better side. Otherwise, or without a measurement, the loop keeps the parent model.
    """
    if change is None or low is None or high is None:
        return False, "could not be measured on enough prompts"
    figures = f"{change:+.3f} [{low:+.3f}, {high:+.3f}]"
    gained = low > min_gain if direction == "up" else high < -min_gain
    if gained:
        return True, f"improved beyond its interval: {figures}"
    threshold = f"{min_gain if direction == 'up' else -min_gain:g}"
    return False, f"no gain beyond its interval: {figures}, needed {direction} past {threshold}"
