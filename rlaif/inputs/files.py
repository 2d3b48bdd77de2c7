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

import pyarrow as pa

from rlaif.config.load import ADDRESS
from rlaif.errors import EngineMissing, EngineUnavailable, RecordError, RlaifError

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
"""Ending to the codec that unpacks it; after it counts the ending before."""

_WEB = {"http", "https"}
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of prompts, local or not."""

    path: str
    """Absolute or relative local path, or the path within ``system``."""

    name: str
    """How messages and failures call it: unique among the files of one source."""

    kind: str | None
    """One of `KINDS`; None when the name does not tell."""

    system: Any = None
    """The fsspec file system; None for a local file."""

    @property
    def codec(self) -> str | None:
        """What it is packed with."""
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
            RecordError: No such file, unreadable, or damaged: also while it is read.
            EngineUnavailable: It is not local, and whoever keeps it failed.
        """
        try:
            with self._open_raw() as raw:
                if self.codec is None:
                    yield raw
                else:
                    # Unpacks a file of several parts too, and says when the last is cut off.
                    unpacked = pa.CompressedInputStream(raw, self.codec)
                    with io.BufferedReader(unpacked, _BUFFER) as buffered:
                        yield cast(BinaryIO, buffered)
        except RlaifError:
            raise
        except UnicodeError:
            raise RecordError(f"{self.shown}: holds text that is not UTF-8") from None
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
        # What storage libraries raise when a server fails has no common root.
        if self.system is None or isinstance(problem, PermissionError | pa.ArrowInvalid):
            return RecordError(message)
        return EngineUnavailable(message, hint="repeat the command to resume once it can be read")

    def _open_raw(self) -> BinaryIO:
        if self.system is None:
            return Path(self.path).open("rb")
        return cast(BinaryIO, self.system.open(self.path, "rb"))


def find_files(path: str, kind: str | None = None) -> list[InputFile]:
    """Return the files that a path names, sorted by it.

    A folder stands for the files below it whose names tell their kind, a pattern (``*``, ``?``,
    ``[…]``, ``**``) for what it matches; hidden files and those that begin with ``_`` are left out.

    Args:
        path: A local path or an address.
        kind: Of all of them; None: each name tells.

    Raises:
        RecordError: Nothing is there, or a name does not tell the kind of its file.
        EngineMissing: The library for this kind of address is not installed.
    """
    find = _find_remote if ADDRESS.search(path) else _find_local
    system, found, top = find(path)
    if top is not None:
        found = [one for one in found if _is_data(one.removeprefix(top), kind)]
    if not found:
        raise RecordError(
            f"{path}: no files of prompts there",
            hint=f"they end in {', '.join(KINDS)}, also with {', '.join(CODECS)} behind",
        )
    above = os.path.commonpath([os.path.dirname(one) for one in found])  # noqa: PTH120
    files = [
        InputFile(one, os.path.relpath(one, above) if above else one, kind or kind_of(one), system)
        for one in sorted(found)
    ]
    for file in files:
        if file.kind is None:
            suffix = PurePosixPath(_plain(file.path)).suffix
            raise RecordError(
                f"{path}: unknown kind of file {suffix!r}",
                hint=f"name its format: {', '.join(sorted(set(KINDS.values())))}",
            )
    return files


def kind_of(path: str) -> str | None:
    """Tell the kind of a file by its name; None when that cannot be done."""
    pure = PurePosixPath(_plain(path))
    if pure.suffix.lower() in CODECS:
        pure = pure.with_suffix("")
    return KINDS.get(pure.suffix.lower())


def _plain(path: str) -> str:
    """Without what follows a question mark in a web address."""
    return urlsplit(path).path if path.startswith(("http://", "https://")) else path


def _find_local(path: str) -> tuple[None, list[str], str | None]:
    """Return no file system, files, and what they lie under; None when none were searched for."""
    if Path(path).is_dir():
        return None, [str(one) for one in Path(path).rglob("*") if one.is_file()], path
    if glob.has_magic(path) and not Path(path).exists():
        found = glob.glob(path, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute ones
        return None, [one for one in found if Path(one).is_file()], _fixed(path)
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
            found = system.glob(inside, detail=True)
            files = [str(one) for one, facts in found.items() if facts.get("type") == "file"]
            return system, files, _fixed(inside)
        if system.isdir(inside):
            return system, [str(one) for one in system.find(inside)], inside
    except ImportError as problem:
        raise EngineMissing(f"{path}: {problem}", hint="pip install what it names") from None
    except (OSError, ValueError) as problem:
        raise RecordError(f"{path}: cannot be read: {problem}") from None
    return system, [inside], None


def _fixed(pattern: str) -> str:
    """The folders of a pattern that are the same for all it matches."""
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
