"""What a training reads before anything is started."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

DataT = TypeVar("DataT")


@dataclass(frozen=True, slots=True)
class Inputs(Generic[DataT]):
    """What is read before a folder is taken: all that must hold before a start."""

    data: DataT
    tokenizer: Any
    """Saved beside the weights."""

    plan: Mapping[str, Any]
    """Whatever changes the result, by content: what a resume must agree with."""

    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Sections of the model card about the data, a table each."""

    notes: tuple[str, ...] = ()
    """What was assumed or left out: shown at the start, and in the card."""
