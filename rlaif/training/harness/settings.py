"""From what a caller said to settings, once; and which process this is."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from rlaif.config.load import Settings, load_config
from rlaif.training.models import take_device

ConfigT = TypeVar("ConfigT", bound=Settings)

Said = Settings | Mapping[str, Any] | str | Path | None
"""Settings, a mapping, or a training file."""


def read_settings(
    kind: type[ConfigT],
    config: Said,
    overrides: Mapping[str, Any],
    **named: str | Path | None,
) -> ConfigT:
    """Return settings from a file, a mapping or keyword arguments; the latter win over the file.

    The first thing every trainer does: it also takes its GPU. Settings of this kind that nothing
    overrides are taken as they are: whoever made them has checked them.

    Raises:
        ConfigError: Unknown or missing keys, or values that do not fit.
    """
    take_device()
    said = {**overrides, **{k: str(value) for k, value in named.items() if value is not None}}
    if isinstance(config, kind) and not said:
        return config
    source = config.model_dump(mode="json") if isinstance(config, Settings) else config or {}
    return load_config(kind, source, said)


def is_main_process() -> bool:
    """Whether this process writes; launchers number processes with RANK."""
    return int(os.environ.get("RANK", "0")) == 0
