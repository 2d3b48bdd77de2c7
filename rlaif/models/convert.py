"""GGUF files: converted to folders that everything can load, train and save, and cached.

Weights become float32, exactly as dequantised: no smaller dtype holds these values, and loading can
round them to bfloat16 once.

The cache is in ``RLAIF_CACHE``, else in ``rlaif`` under ``XDG_CACHE_HOME`` or ``~/.cache``. A file
is converted once per user, however many processes start together: under a lock, into a temporary
folder that is renamed when complete. An entry lists its files with their sizes; if one is missing
or has another size, the entry is built again.
"""

import contextlib
import importlib
import importlib.util
import logging
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import EngineMissing, InputError
from rlaif.models.fingerprint import cache_folder, file_digest
from rlaif.models.loading import load_pretrained

_log = logging.getLogger(__name__)

_NEEDED = ("torch", "transformers", "accelerate", "gguf", "filelock")
_FORMAT = 1  # part of an entry's name; raise it when converted files would differ
_LISTING = "rlaif.json"


def convert_gguf(path: Path | str, out: Path | str) -> Path:
    """Convert a GGUF file to a folder with safetensors weights, config, tokenizer and template.

    Args:
        path: One file; models split over several are not supported.
        out: The folder to create; it must not exist, or be empty.

    Returns:
        ``out``.

    Raises:
        InputError: The file is missing or cannot be converted, or ``out`` is not empty.
        EngineMissing: A library that converting needs is not installed.
    """
    path, out = Path(path), Path(out)
    if not path.is_file():
        raise InputError(f"{path}: file not found")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: already exists", hint="name a new folder")
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


def is_converted(entry: str) -> bool:
    """Whether an entry exists and is complete."""
    return _is_complete(_folder(entry))


def converted(entry: str, source: Path, *, sha256: str = "", hint: str = "") -> Path:
    """Return the folder of a cache entry, converting the GGUF file if the entry is incomplete.

    Args:
        entry: Its name, which must be unique to the content of the file.
        source: The GGUF file.
        sha256: Its expected digest; empty if unknown.
        hint: How to fix a file of another digest.

    Raises:
        EngineMissing: A library that converting needs is not installed.
        InputError: The file is damaged or cannot be converted, or the cache is not writable.
    """
    folder = _folder(entry)
    if _is_complete(folder):
        return folder
    need_libraries(source)
    with _lock(folder.with_name(f"{folder.name}.lock")):
        if not _is_complete(folder):
            if sha256 and file_digest(source) != sha256:
                raise InputError(
                    f"{source}: damaged, or another version (its SHA-256 is not {sha256})",
                    hint=hint,
                )
            _build(folder, source)
    return folder


def _build(folder: Path, source: Path) -> None:
    _log.warning("converting %s once, into %s", source.name, folder)
    building = folder.with_name(f".building-{folder.name}")
    shutil.rmtree(building, ignore_errors=True)  # left by a killed process
    try:
        write_converted(source, building)
        sizes = {file.name: file.stat().st_size for file in building.iterdir()}
        for name in sizes:
            with (building / name).open("rb+") as handle:
                os.fsync(handle.fileno())
        (building / _LISTING).write_bytes(orjson.dumps({"format": _FORMAT, "files": sizes}))
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    except OSError as problem:
        raise _cannot_write(folder, problem) from problem
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _folder(entry: str) -> Path:
    return cache_folder() / "models" / f"{entry}-v{_FORMAT}"


def _is_complete(folder: Path) -> bool:
    try:
        sizes = orjson.loads((folder / _LISTING).read_bytes())["files"]
        return bool(sizes) and all((folder / n).stat().st_size == s for n, s in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    from filelock import FileLock

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as problem:
        raise _cannot_write(path, problem) from problem
    try:
        yield
    finally:
        lock.release()


def _cannot_write(path: Path, problem: OSError) -> InputError:
    return InputError(
        f"{path.parent}: cannot be written: {problem.strerror or problem}",
        hint="free disk space there, or set RLAIF_CACHE to another folder",
    )


def need_libraries(source: Path) -> None:
    """Check that the libraries that converting needs are installed.

    Raises:
        EngineMissing: Lists those that are missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineMissing(
            f"converting {source.name} needs {', '.join(missing)}: not installed",
            hint="pip install 'constitutional-rlaif[local]'",
        )


def write_converted(source: Path, out: Path) -> None:
    """Write a converted model into a new folder; on failure the folder is left incomplete.

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
                # Without this the model is marked as quantised and can be neither trained nor
                # saved, although all its weights are floats.
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
    """Suppress the progress bars and warnings of transformers while loading."""
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
    """The GGUF reader's progress bar ignores all settings, so it is replaced here."""
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    bar = reader.tqdm
    reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar
