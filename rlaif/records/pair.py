"""Preference pairs, drops and failures: what a prompt yields besides its responses."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two responses of which the first is preferred, with the probability that this is right."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen_prob: float
    """P(chosen is better) in [0.5, 1], after the recorded transforms."""

    margin: float
    """2·|p − ½| in [0, 1]."""

    principles: tuple[str, ...]
    judges: tuple[str, ...]
    agreement: float
    abstained: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Something that was left out on purpose, with the reason. Counted in every report."""

    what: str
    """``comparison``, ``pair``, ``response`` or ``prompt``."""

    reason: str
    """Short and countable, such as ``tie``, ``margin``, ``identical`` or ``all-abstained``."""

    ids: tuple[str, ...] = ()


REMOVED = "remove"
"""The stage of a failure that was wanted: a prompt left out as a duplicate or as contaminated."""

INPUT_STAGES = ("read", REMOVED)
"""Stages of failures that reading the input finds, every time anew."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that went wrong. Kept and counted; never an exception."""

    stage: str
    """``read``, ``remove``, ``sample``, ``critique``, ``revise``, ``judge``, or ``render``: a
    template cannot be filled in with the prompt."""

    record_id: str
    """What it happened to: a prompt id, or file:line for input that has none."""

    kind: str
    """Short and countable, such as ``context-length``, ``http-500`` or ``bad-json``."""

    message: str
    attempts: int = 1
