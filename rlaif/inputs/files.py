"""Which files a path, pattern, folder or address names, and how each is opened.

Local files need nothing beyond the core. Addresses (``s3://``, ``gs://``, ``https://``,
``memory://`` …) go through fsspec, which finds credentials by its own rules.
"""

import glob
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import orjson
import pyarrow as pa

from rlaif.config.load import ADDRESS, nearest
from rlaif.errors import EngineMissing, EngineUnavailable, RecordError, RlaifError

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
CODECS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2"}
"""Last suffix of a packed file to its codec; the suffix before shows the format."""

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_WEB = {"http", "https"}
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read."""

    kind: str
    message: str


Numbered = tuple[int, Any]
"""A record and its place in the file: its first line, or its number, both from 1."""


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate, which JSON can contain and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of prompts, local or not."""

    path: str
    """Absolute or relative local path, or the path within ``system``."""

    name: str
    """Its name in messages and failures, unique among the files of one source."""

    kind: str | None
    """One of `KINDS`; None when the name does not show it."""

    system: Any = None
    """The fsspec file system; None for a local file."""

    @property
    def codec(self) -> str | None:
        """The codec that it is packed with, if any."""
        return CODECS.get(PurePosixPath(_plain(self.path)).suffix.lower())

    @property
    def shown(self) -> str:
        """The whole path or address, for messages about the file."""
        return self.path if self.system is None else str(self.system.unstrip_protocol(self.path))

    @property
    def local(self) -> Path | None:
        """The path of a local file."""
        return Path(self.path) if self.system is None else None

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open it for reading bytes, unpacked.

        Raises:
            RecordError: The file is missing, unreadable, or damaged: also while it is read.
            EngineUnavailable: The server of a remote file failed.
        """
        try:
            with self._open_raw() as raw:
                if self.codec is None:
                    yield raw
                else:
                    # Unpacks files of several parts, and raises when the last is cut off.
                    unpacked = pa.CompressedInputStream(raw, self.codec)
                    with io.BufferedReader(unpacked, _BUFFER) as buffered:
                        yield cast(BinaryIO, buffered)
        except RlaifError:
            raise
        except UnicodeError:
            raise RecordError(f"{self.shown}: not UTF-8 text") from None
        except FileNotFoundError:
            raise RecordError(f"{self.shown}: no such file") from None
        except Exception as problem:  # noqa: BLE001 - explained, or raised again
            raise self._explain(problem) from None

    def _explain(self, problem: Exception) -> Exception:
        known = isinstance(problem, OSError | pa.ArrowException)
        if self.system is None and not known:
            return problem
        why = getattr(problem, "strerror", None) or str(problem).strip().partition("\n")[0]
        message = f"{self.shown}: cannot be read: {why or type(problem).__name__}"
        # The exceptions of storage libraries for failing servers have no common base class.
        if self.system is None or isinstance(problem, PermissionError | pa.ArrowInvalid):
            return RecordError(message)
        return EngineUnavailable(message, hint="repeat the command to resume once it can be read")

    def _open_raw(self) -> BinaryIO:
        if self.system is None:
            return Path(self.path).open("rb")
        return cast(BinaryIO, self.system.open(self.path, "rb"))


def find_files(path: str | Path, kind: str | None = None, split: str = "") -> list[InputFile]:
    """Return the files that a path names, sorted by it.

    A folder stands for the files below it whose names tell their kind, a pattern (``*``, ``?``,
    ``[…]``, ``**``) for what it matches; hidden files and those that begin with ``_`` are left out.

    Args:
        path: A local path, also of a folder that ``datasets`` saved, or an address.
        kind: Format of all files (default: from each name).
        split: Split of a saved data set that has several.

    Raises:
        RecordError: Nothing is there, the split does not exist, or a name does not show the format.
        EngineMissing: The library for this kind of address is not installed.
    """
    path = str(path)
    remote = ADDRESS.search(path) is not None
    if not remote and (saved := _saved_files(Path(path), split)) is not None:
        return saved
    system, names, top = _find_remote(path) if remote else _find_local(path)
    if top is not None:
        names = [name for name in names if _is_data(name.removeprefix(top), kind)]
    if not names:
        raise RecordError(
            f"{path}: no files of prompts found",
            hint=f"their names end in {', '.join(KINDS)}, and {', '.join(CODECS)} if packed",
        )
    above = os.path.commonpath([os.path.dirname(name) for name in names])  # noqa: PTH120
    files = [
        InputFile(
            name, os.path.relpath(name, above) if above else name, kind or kind_of(name), system
        )
        for name in sorted(names)
    ]
    for file in files:
        if file.kind is None:
            suffix = PurePosixPath(_plain(file.path)).suffix
            raise RecordError(
                f"{path}: unknown file format {suffix!r}",
                hint=f"set prompts.format: {', '.join(sorted(set(KINDS.values())))}",
            )
    return files


def kind_of(path: str) -> str | None:
    """Return the format that a file name shows; None when it shows none."""
    pure = PurePosixPath(_plain(path))
    if pure.suffix.lower() in CODECS:
        pure = pure.with_suffix("")
    return KINDS.get(pure.suffix.lower())


def _plain(path: str) -> str:
    """Return a path, or a web address without its query."""
    return urlsplit(path).path if path.startswith(("http://", "https://")) else path


def _find_local(path: str) -> tuple[None, list[str], str | None]:
    """Return no file system, the files, and the folder searched; None if one file is named."""
    if Path(path).is_dir():
        return None, [str(file) for file in Path(path).rglob("*") if file.is_file()], path
    if glob.has_magic(path) and not Path(path).exists():
        matches = glob.glob(path, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute ones
        return None, [match for match in matches if Path(match).is_file()], _fixed(path)
    if not Path(path).exists():
        raise RecordError(f"{path}: no such file")
    return None, [path], None


def _find_remote(path: str) -> tuple[Any, list[str], str | None]:
    fsspec = _fsspec()
    try:
        system, inside = fsspec.core.url_to_fs(path)
        protocols = {system.protocol} if isinstance(system.protocol, str) else {*system.protocol}
        if protocols & _WEB:
            return system, [inside], None
        if glob.has_magic(inside):
            matches = system.glob(inside, detail=True)
            files = [str(match) for match, info in matches.items() if info.get("type") == "file"]
            return system, files, _fixed(inside)
        if system.isdir(inside):
            return system, [str(file) for file in system.find(inside)], inside
    except ImportError as problem:
        raise EngineMissing(
            f"{path}: {problem}", hint="pip install the library named above"
        ) from None
    except (OSError, ValueError) as problem:
        raise RecordError(f"{path}: cannot be read: {problem}") from None
    return system, [inside], None


def _fixed(pattern: str) -> str:
    """Return the leading folders of a pattern that have no wildcards."""
    start = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return start[: start.rfind("/") + 1]


def _fsspec() -> ModuleType:
    try:
        import fsspec
    except ImportError:
        raise EngineMissing(
            "reading from an address needs the fsspec library",
            hint="pip install 'constitutional-rlaif[inputs]'",
        ) from None
    return cast(ModuleType, fsspec)


def _is_data(below: str, kind: str | None) -> bool:
    hidden = any(part.startswith((".", "_")) for part in PurePosixPath(below).parts)
    return not hidden and (kind is not None or kind_of(below) is not None)


def _saved_files(folder: Path, split: str) -> list[InputFile] | None:
    """Return the files of a data set that ``save_to_disk`` wrote; None for any other folder.

    They are Arrow files, which are read without `datasets`.

    Raises:
        RecordError: The split does not exist, or the data set is damaged.
    """
    if (folder / _SPLITS).is_file():
        splits: list[str] = _load(folder / _SPLITS).get("splits", [])
        if split not in splits:
            raise RecordError(f"{folder}: split {split!r} not found{nearest(split, splits)}")
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
