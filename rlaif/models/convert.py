"""From a GGUF file to a folder that everything can load, train, save and reload.

Weights become float32, exactly as dequantised: no dtype of half the size holds these values, and
whoever wants bfloat16 rounds once, when loading.
"""

import contextlib
import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rlaif.errors import EngineMissing, InputError
from rlaif.models.loading import load_pretrained

_NEEDED = ("torch", "transformers", "accelerate", "gguf", "filelock")


def convert_gguf(path: Path | str, out: Path | str) -> Path:
    """Convert a GGUF file to a folder with safetensors weights, config, tokenizer and template.

    Args:
        path: One file; models split over several are not supported.
        out: The folder to make; it must not exist yet, or be empty.

    Returns:
        ``out``.

    Raises:
        InputError: No such file, an architecture that transformers cannot convert, or ``out`` is
            taken.
        EngineMissing: What converting needs is not installed.
    """
    path, out = Path(path), Path(out)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already", hint="name a folder that does not exist")
    need_libraries(path)
    building = out.with_name(f".building-{out.name}-{os.getpid()}")
    try:
        write_converted(path, building)
        if out.exists():
            out.rmdir()
        building.rename(out)
    except OSError as problem:
        raise InputError(f"{out}: cannot be written: {problem.strerror}") from problem
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def need_libraries(source: Path) -> None:
    """Check that everything converting needs can be imported.

    Raises:
        EngineMissing: Names what cannot.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineMissing(
            f"converting {source.name} needs {', '.join(missing)}: not installed",
            hint="pip install 'constitutional-rlaif[local]'",
        )


def write_converted(source: Path, out: Path) -> None:
    """Write a converted model into a new folder, which is left incomplete on failure.

    Raises:
        InputError: The file cannot be converted.
        OSError: The folder cannot be written.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, file = str(source.resolve().parent), source.name
    with quiet_transformers(), _no_gguf_bar():
        try:
            config = load_pretrained(AutoConfig, folder, gguf_file=file)
            model = load_pretrained(
                AutoModelForCausalLM,
                folder,
                config=config,
                gguf_file=file,
                dtype=torch.float32,
                # Without this the model calls itself quantised: it could be neither trained
                # nor saved, although every weight is a plain float.
                quantization_config=GgufConfig(dequantize=True),
            )
            tokenizer = load_pretrained(AutoTokenizer, folder, gguf_file=file, config=config)
        except Exception as problem:
            first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
            raise InputError(f"{source}: cannot be converted: {first}") from problem
        tokenizer.model_max_length = config.get_text_config().max_position_embeddings
        out.mkdir(parents=True)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and remarks about loading out of the terminal."""
    from transformers.utils import logging as library

    bars, level = library.is_progress_bar_enabled(), library.get_verbosity()
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    library.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _no_gguf_bar() -> Iterator[None]:
    """The GGUF reader's progress bar heeds no setting, so it is replaced for a while."""
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    bar = reader.tqdm
    reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar
