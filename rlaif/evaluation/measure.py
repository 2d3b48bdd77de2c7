"""What a measure is: one number per response or per prompt, and what it cannot tell.

A measure reads groups (a prompt and the responses one model gave to it) and returns a table from
prompt id to values. A missing value is None: it is counted as unscored and never
becomes a number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rlaif.generation.sample import REFUSED
from rlaif.records import Prompt, Response

Row = tuple[float | None, ...]
"""The values of one prompt: one per sample asked for, by index, or a single one for measures of
the whole group. None where a value is missing."""

Values = Mapping[str, Row]
"""Prompt id to row. Prompts that the measure does not apply to are left out."""


@dataclass(frozen=True, slots=True)
class Group:
    """One prompt and what one model answered."""

    prompt: Prompt
    responses: tuple[Response, ...]
    asked: int
    """How many responses were asked for; those missing failed."""

    def row(self, value: Callable[[Response], float | None]) -> Row:
        """Return the values of the responses by sample index; None where a sample failed.

        What the server's own filter refused is None too: the words are not the model's.
        """
        values: list[float | None] = [None] * self.asked
        for response in self.own():
            values[response.index] = value(response)
        return tuple(values)

    def own(self) -> list[Response]:
        """Return the responses that the model wrote, rather than a filter of the server."""
        return [response for response in self.responses if response.finish != REFUSED]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure's name and how to read it."""

    name: str
    """Such as ``rules`` or ``length/words``; results are looked up by it."""

    says: str
    """What the number is, in one line."""

    better: Literal["higher", "lower", "neither"]
    kind: Literal["share", "number"]
    """A share is in [0, 1] and shown as a percentage."""

    cannot_tell: str
    """What the number must not be read as."""

    of: Literal["response", "prompt"] = "response"
    """What one value belongs to."""

    even: float | None = None
    """For comparisons with the baseline: the value when neither side is better, such as 0.5 for a
    win rate. None for measures of one model, which are compared by their change."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure and its values for one model."""

    measure: Measure
    values: Values


def per_response(
    measure: Measure, groups: Sequence[Group], value: Callable[[Response], float | None]
) -> Measured:
    """Measure every response by itself."""
    return Measured(measure, {group.prompt.id: group.row(value) for group in groups})


def per_group(
    measure: Measure, groups: Sequence[Group], value: Callable[[Group], float | None]
) -> Measured:
    """Measure the responses to a prompt together: one value per prompt."""
    return Measured(measure, {group.prompt.id: (value(group),) for group in groups})
