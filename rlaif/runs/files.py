"""Files that are whole or not there, and on the disk when the call returns.

Shards and manifests reach the disk only through here. An object store needs no more than what is
here: a single upload there is as atomic as the rename here.
"""

import errno
import os
import re
from pathlib import Path

import pyarrow as pa

from rlaif.errors import InputError, RunError

PARTIAL = ".tmp"
"""How the name of an unfinished file ends: after a dot and the number of its process."""

_UNFINISHED = re.compile(rf".+\.\d+{re.escape(PARTIAL)}")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}

_NAMES = {errno.ENAMETOOLONG, errno.ELOOP}


def cannot_write(path: Path, error: OSError) -> RunError:
    """Say in the user's words why ``path`` could not be written."""
    if error.errno in _FULL:
        return RunError(
            f"{path}: the disk is full (or a size limit was reached)",
            hint="make room and repeat the command; everything written before is kept",
        )
    if error.errno in _FORBIDDEN:
        return RunError(
            f"{path}: cannot be written ({os.strerror(error.errno or 0).lower()})",
            hint="choose a folder you may write to as `out`, or mend its permissions",
        )
    return RunError(f"{path}: cannot be written ({error.strerror or error})")


def is_refused(error: OSError) -> bool:
    """Whether the system refused a file: no room, no permission, or no name of a file."""
    return error.errno in _FULL | _FORBIDDEN | _NAMES


def make_folder(path: Path) -> None:
    """Create a folder and its parents; an existing one is fine.

    Raises:
        RunError: It cannot be created, or something that is no folder is in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise RunError(
            f"{path}: is a file, not a folder", hint="choose another folder as `out`"
        ) from error
    except OSError as error:
        raise cannot_write(path, error) from error


def check_free(path: Path, *, force: bool = False) -> None:
    """Make sure that a file named on the command line replaces nothing by mistake.

    Raises:
        InputError: Something has this name, be it a link that leads nowhere, and ``force`` is off.
    """
    if not force and os.path.lexists(path):
        raise InputError(f"{path}: exists already", hint="name a new file, or replace it: --force")


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that any reader, and any crash, sees all of it or none.

    Raises:
        RunError: Disk full, read-only folder, or another trouble; nothing is left behind.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def sync_folder(path: Path) -> None:
    """Make creations and renames inside a folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_whole(folder: Path, suffix: str) -> list[Path]:
    """Finished files with this suffix, sorted by name; a missing folder holds none."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(suffix))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{folder}: cannot be read ({error.strerror or error})") from error
    return [folder / name for name in names]


def open_whole(path: Path) -> pa.NativeFile:
    """Open a finished file for reading at any position."""
    return pa.OSFile(str(path), "rb")


def is_unfinished(path: Path) -> bool:
    """Whether a file has the name of one that is still being written, or that a crash left."""
    return _UNFINISHED.fullmatch(path.name) is not None


def remove_partial(*folders: Path) -> list[Path]:
    """Remove what crashed writers left unfinished; returns what was removed.

    Only for whoever holds the run's lock: another writer's unfinished file looks the same.
    """
    listed = [path for folder in folders for path in list_whole(folder, PARTIAL)]
    found = [path for path in listed if is_unfinished(path)]
    for path in found:
        path.unlink(missing_ok=True)
    return found
