"""What a training reads before anything is started."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from rlaif.config.load import Settings, load_config
from rlaif.training.models import take_device

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


_PLACES = ("model", "out", "data")
"""Arguments that every trainer has beside the file's keys; None is their default."""

ConfigT = TypeVar("ConfigT", bound=Settings)

Said = Settings | Mapping[str, Any] | str | Path | None
"""Settings, a mapping, or a training file."""


def read_settings(kind: type[ConfigT], config: Said, said: Mapping[str, Any]) -> ConfigT:
    """Return settings from a file, a mapping or keyword arguments; the latter win over the file.

    The first thing every trainer does: it also takes its GPU. Settings of this kind that nothing
    overrides are taken as they are: they were checked when they were made.

    Args:
        kind: The trainer's.
        config: See `Said`.
        said: Keyword arguments by name; those that are None say nothing.

    Raises:
        ConfigError: Unknown or missing keys, or values that do not fit.
    """
    take_device()
    given = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in said.items()
        if value is not None or name not in _PLACES
    }
    if isinstance(config, kind) and not given:
        return config
    source = config.model_dump(mode="json") if isinstance(config, Settings) else config or {}
    return load_config(kind, source, given)


def is_main_process() -> bool:
    """Whether this process writes; launchers number processes with RANK."""
    return int(os.environ.get("RANK", "0")) == 0
