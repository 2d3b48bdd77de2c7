"""The cache of converted models: built once per user, however many processes start together.

It is in ``RLAIF_CACHE``, else in ``rlaif`` under ``XDG_CACHE_HOME`` or ``~/.cache``. An entry is
built in a folder beside it and renamed when complete, under a lock. It lists its files with their
sizes, and one that lacks any of them is built anew.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson

from rlaif.errors import InputError
from rlaif.models.convert import need_libraries, write_converted
from rlaif.models.fingerprint import cache_folder, file_digest

_log = logging.getLogger(__name__)

_FORMAT = 1  # part of an entry's name; raise it when converted files would differ
_LISTING = "rlaif.json"


def is_converted(entry: str) -> bool:
    """Whether an entry is there and complete."""
    return _is_complete(_folder(entry))


def converted(entry: str, source: Path, *, sha256: str = "", cure: str = "") -> Path:
    """Return the folder of an entry, converting a GGUF file if it is not there complete.

    Args:
        entry: Its name, which must tell the file's content from any other.
        source: The GGUF file.
        sha256: What its digest must be, if it is known.
        cure: What to do about a file of another digest.

    Raises:
        EngineMissing: What converting needs is not installed.
        InputError: The file is damaged or cannot be converted, or the cache cannot be written.
    """
    folder = _folder(entry)
    if _is_complete(folder):
        return folder
    need_libraries(source)
    with _lock(folder.with_name(f"{folder.name}.lock")):
        if not _is_complete(folder):
            if sha256 and file_digest(source) != sha256:
                raise InputError(
                    f"{source}: is damaged or of another version (its SHA-256 is not {sha256})",
                    hint=cure,
                )
            _build(folder, source)
    return folder


def _build(folder: Path, source: Path) -> None:
    _log.warning("converting %s once, into %s", source.name, folder)
    building = folder.with_name(f".building-{folder.name}")
    shutil.rmtree(building, ignore_errors=True)  # of a process that was killed
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
        hint="free space there, or set RLAIF_CACHE to another folder",
    )
