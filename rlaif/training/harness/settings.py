"""From what a caller said to settings, and from settings to what changes the result."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from datasets import Dataset

from rlaif.config.load import load_config
from rlaif.config.train import LoraConfig, TrainConfig
from rlaif.errors import InputError
from rlaif.training.data.read import Source
from rlaif.training.models import LoraSettings, context_length, identify_model, take_device

ConfigT = TypeVar("ConfigT", bound=TrainConfig)

_INERT = (
    *("model", "revision", "data", "gold", "out", "gradient_checkpointing"),
    *("save_every", "keep_checkpoints", "log_every", "samples", "report_to"),
)
"""Settings that do not change the weights; models and data count by their content."""


def build_settings(
    kind: type[ConfigT],
    config: ConfigT | Mapping[str, Any] | str | Path | None,
    *,
    dataset: Source | None,
    model: str | Path | None,
    out: str | Path | None,
    overrides: Mapping[str, Any],
) -> tuple[ConfigT, Source]:
    """Return settings and the data source from a file, a mapping or keyword arguments.

    Keyword arguments win over the file. The first thing every trainer does: it also takes its GPU.

    Raises:
        ConfigError: Unknown or missing keys, or values that do not fit.
        InputError: No data set was named anywhere.
    """
    take_device()
    said: dict[str, Any] = dict(overrides)
    for name, value in (("model", model), ("out", out)):
        if value is not None:
            said[name] = str(value)
    if dataset is not None and not isinstance(dataset, Dataset):
        said["data"] = str(dataset)
    source = config.model_dump(mode="json") if isinstance(config, TrainConfig) else config or {}
    settings = load_config(kind, source, said)
    data: Source | None = dataset if isinstance(dataset, Dataset) else settings.data
    if data is None:
        raise InputError("data is missing", hint="name an export folder, a file or a hub id")
    return settings, data


def plan_of(settings: TrainConfig, max_length: int, *data: str | None) -> dict[str, Any]:
    """Return everything that changes the result, by content: what a resume must agree with."""
    values = settings.model_dump(mode="json", exclude=set(_INERT))
    if values.get("reference_model"):
        values["reference_model"] = identify_model(values["reference_model"])
    return {
        **values,
        "max_length": max_length,
        "model": identify_model(settings.model, revision=settings.revision),
        "data": list(data),
    }


def usable_length(settings: TrainConfig) -> int:
    """The asked length, or the model's context where that is shorter."""
    context = context_length(settings.model, revision=settings.revision)
    return settings.max_length if context is None else min(settings.max_length, context)


def lora_settings(config: LoraConfig | None) -> LoraSettings | None:
    """The settings of adapters, as the model loader takes them."""
    return None if config is None else LoraSettings(**config.model_dump())


def is_main_process() -> bool:
    """Whether this process writes; launchers number processes with RANK."""
    return int(os.environ.get("RANK", "0")) == 0
