"""The final checkpoint: written beside its place, then renamed into it, the weights last.

A quantised base cannot take an adapter up without loss: then only the adapter is written, and the
error of whatever loads ``out`` as a model names it.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def staging_folder(out: Path) -> Path:
    """Where the files of a checkpoint are written before `publish` moves them into ``out``."""
    return out / ".saving"


def write_model(
    model: Any,
    folder: Path,
    *,
    write: Callable[[str], None] | None = None,
    main: bool = True,
) -> None:
    """Write a model as plain transformers loads it; adapters merged, and kept in ``adapter/``.

    Args:
        model: A transformers or PEFT model; no longer adapted afterwards.
        folder: Receives the files.
        write: Writes the model as it is, where several processes must do so together.
        main: False on all processes but the first, which only join in ``write``.
    """
    adapted = hasattr(model, "peft_config")
    (write or model.save_pretrained)(str(folder / "adapter" if adapted else folder))
    if adapted and main and not getattr(model, "is_loaded_in_4bit", False):
        model.merge_and_unload().save_pretrained(folder)


def publish(staging: Path, out: Path) -> None:
    """Move everything in ``staging`` into ``out``, the weights last, and remove it."""
    for path in staging.rglob("training_args.bin"):
        path.unlink()  # a pickle; nothing of ours is unpickled
    for path in sorted(staging.iterdir(), key=lambda p: p.suffix == ".safetensors"):
        target = out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    staging.rmdir()
