"""Files that are whole or not there, and on the disk when the call returns.

Shards and manifests reach the disk only through here. In an object store a single upload is as
atomic as the rename here. Folders are replaced whole, too, and files of the user are kept.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from rlaif.errors import InputError, RunError
from rlaif.runs.layout import Layout

PARTIAL = ".tmp"
"""Suffix of an unfinished file, after a dot and the id of its process."""

ASIDE = ".old"
"""Suffix of a folder that was renamed to make room for another."""

_UNFINISHED = re.compile(rf".+\.\d+{re.escape(PARTIAL)}")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}

_NAMES = {errno.ENAMETOOLONG, errno.ELOOP}


def cannot_write(path: Path, error: OSError) -> RunError:
    """Explain why ``path`` could not be written."""
    if error.errno in _FULL:
        return RunError(
            f"{path}: the disk is full (or a size limit was reached)",
            hint="free disk space and repeat the command; everything written before is kept",
        )
    if error.errno in _FORBIDDEN:
        return RunError(
            f"{path}: cannot be written ({os.strerror(error.errno or 0).lower()})",
            hint="choose another folder as `out`, or fix its permissions",
        )
    return RunError(f"{path}: cannot be written ({error.strerror or error})")


def is_refused(error: OSError) -> bool:
    """Whether the system refused a file: no room, no permission, or no name of a file."""
    return error.errno in _FULL | _FORBIDDEN | _NAMES


def make_folder(path: Path) -> None:
    """Create a folder and its parents; an existing one is fine.

    Raises:
        RunError: It cannot be created, or a file has its name.
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
        RunError: The disk is full, the folder read-only, or another error; nothing is left behind.
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
    """Sync creations and renames inside a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_whole(folder: Path, suffix: str) -> list[Path]:
    """Return finished files with this suffix, sorted by name; none for a missing folder."""
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
    """Whether a file has the name of a file that is still being written, or left by a crash."""
    return _UNFINISHED.fullmatch(path.name) is not None


def remove_partial(*folders: Path) -> list[Path]:
    """Remove unfinished files of crashed writers, and return them.

    The caller must hold the run's lock: unfinished files of an active writer look the same.
    """
    listed = [path for folder in folders for path in list_whole(folder, PARTIAL)]
    unfinished = [path for path in listed if is_unfinished(path)]
    for path in unfinished:
        path.unlink(missing_ok=True)
    return unfinished


def replace_folder(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``: an old ``target`` is renamed first, and removed last.

    A crash at any moment leaves the old folder or the new one. The caller has checked that
    ``target`` may be removed. A killed process can leave the old folder as ``new`` with the suffix
    `ASIDE`.

    Raises:
        OSError: A rename failed; the old folder is back in its place.
    """
    aside = new.with_name(f"{new.name}{ASIDE}")
    try:
        if target.exists():
            target.rename(aside)
        new.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Sync everything inside a folder to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync_folder(Path(root, name))
        sync_folder(Path(root))


def check_results_folder(folder: Path, names: Iterable[str]) -> None:
    """Check that writing results into a folder overwrites no file of the user.

    A folder with a ledger contains earlier results, which may be overwritten.

    Args:
        folder: Where results will be written; it need not exist.
        names: Files that will be written.

    Raises:
        InputError: One of them exists, but no ledger.
    """
    ledger = Layout(folder).ledger
    taken = [name for name in names if (folder / name).exists()]
    if taken and not ledger.exists():
        raise InputError(
            f"{folder}: contains {taken[0]} but no {ledger.name}, so it is not an earlier result",
            hint="choose another folder as `out`, or move the file away",
        )
