"""Hugging Face data sets: streamed by the `datasets` library, or saved by it and read without."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from rlaif.config import nearest
from rlaif.errors import EngineMissing, EngineUnavailable, RecordError
from rlaif.inputs.files import InputFile
from rlaif.inputs.records import Numbered

_STATE, _SPLITS = "state.json", "dataset_dict.json"


def read_hub(
    name: str, *, config: str | None, split: str, revision: str | None, streaming: bool
) -> Iterator[Numbered]:
    """Yield the records of a data set on the hub, or of a folder laid out like one.

    Args:
        name: ``owner/name``, or a local folder.
        config: Its configuration, where it has several.
        split: Such as ``train`` or ``train[:10%]`` (the latter without streaming).
        revision: Branch, tag or commit.
        streaming: Read while downloading; else download first and read from the disk.

    Raises:
        EngineMissing: The `datasets` library is not installed.
        RecordError: There is no such data set, configuration or split, or it cannot be read.
        EngineUnavailable: It could be read at first, and then no more.
    """
    number = 0
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise EngineMissing(
            "reading a Hugging Face data set needs the datasets library",
            hint="pip install 'constitutional-rlaif[inputs]'",
        ) from None
    try:
        found = datasets.load_dataset(
            name, config, split=split, revision=revision, streaming=streaming
        )
        for number, record in enumerate(found, start=1):
            yield number, record
    except Exception as problem:  # noqa: BLE001 - what its many loaders raise has no common root
        why = str(problem).strip().partition("\n")[0] or type(problem).__name__
        chosen = f"split {split}" if config is None else f"{config}, split {split}"
        if number:
            raise EngineUnavailable(
                f"{name} ({chosen}): cannot be read after record {number}: {why}",
                hint="repeat the command to resume once it can be read",
            ) from None
        raise RecordError(f"{name} ({chosen}): cannot be read: {why}") from None


def saved_files(folder: Path, split: str) -> list[InputFile] | None:
    """Return the files of a data set that ``save_to_disk`` wrote; None when it is no such folder.

    They are Arrow files that need no `datasets` to be read.

    Raises:
        RecordError: It has no such split, or is damaged.
    """
    if (folder / _SPLITS).is_file():
        splits: list[str] = _load(folder / _SPLITS).get("splits", [])
        if split not in splits:
            raise RecordError(f"{folder}: has no split {split!r}{nearest(split, splits)}")
        return _shards(folder / split, f"{split}/")
    return _shards(folder, "") if (folder / _STATE).is_file() else None


def _shards(folder: Path, prefix: str) -> list[InputFile]:
    shards = _load(folder / _STATE).get("_data_files") or []
    names = [str(shard.get("filename")) for shard in shards]
    return [InputFile(str(folder / name), f"{prefix}{name}", "arrow") for name in names]


def _load(path: Path) -> dict[str, Any]:
    try:
        data = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as problem:
        raise RecordError(f"{path}: damaged or missing: {problem}") from None
    if not isinstance(data, dict):
        raise RecordError(f"{path}: damaged: expected an object")
    return data
