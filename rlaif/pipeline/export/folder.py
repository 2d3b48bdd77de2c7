"""The folder of an export: written aside, known by its marker, and all that ``force`` replaces."""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import InputError
from rlaif.pipeline.export.card import CARD_TAGS
from rlaif.pipeline.export.shape import DATA_FILE
from rlaif.runs.files import ASIDE, cannot_write, replace_folder, sync_tree

MARKER = ".rlaif-export.json"
"""The file that says that a folder is an export of ours."""

CARD = "README.md"
FILES = frozenset({MARKER, CARD, DATA_FILE, "dataset_info.json", "axolotl.yaml"})
"""What exports consist of; a folder that holds anything else is never replaced."""

_STAGING = re.compile(r"\.[0-9a-f]{8}\.tmp")


@contextmanager
def export_folder(out: Path, *, run: Path, about: Mapping[str, Any], force: bool) -> Iterator[Path]:
    """Yield an empty folder to write to; it takes the place of ``out`` unless an error is raised.

    Args:
        out: The folder to be.
        run: The directory of the run that is exported.
        about: What the marker says of the export.
        force: Replace an earlier export.

    Raises:
        InputError: ``out`` may not be replaced; nothing was changed.
        RunError: It cannot be written.
    """
    target = Path(os.path.realpath(out))
    refuse_to_replace(target, run=run, force=force, shown=out)
    staging = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    held: int | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent):
            _tidy(target)
            staging.mkdir()
            held = _lock(staging)
        (staging / MARKER).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2) + b"\n")
        (staging / DATA_FILE).parent.mkdir()
        yield staging
        sync_tree(staging)
        with _locked(target.parent):
            refuse_to_replace(target, run=run, force=force, shown=out)
            replace_folder(staging, target)
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if held is not None:
            os.close(held)


def refuse_to_replace(target: Path, *, run: Path, force: bool, shown: Path) -> None:
    """Check that a folder is missing, empty, or an earlier export that ``force`` may replace.

    Args:
        target: The folder, as the system knows it.
        run: The directory of the run that is exported.
        force: Whether an earlier export may go.
        shown: The folder, as the user named it.

    Raises:
        InputError: It is none of these, or is or holds the run or the current folder.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{shown}: is a file, not a folder", hint="choose another --out")
    for name, place in (("the run", run), ("the current folder", Path.cwd())):
        place = place.resolve()
        if target == place or target in place.parents:
            raise InputError(
                f"{shown}: is or holds {name} ({place})",
                hint="choose a new folder as --out, such as data/pairs",
            )
    if not any(target.iterdir()):
        return
    if not force:
        raise InputError(f"{shown}: already holds files", hint="choose another --out, or --force")
    if not _is_export(target):
        raise InputError(
            f"{shown}: not an export, so --force does not replace it",
            hint="choose another --out, or remove the folder yourself",
        )
    other = _others(target)
    if other is not None:
        raise InputError(
            f"{shown}: holds {other}, which no export wrote, so --force does not replace it",
            hint="move it away, or choose another --out",
        )


def _is_export(folder: Path) -> bool:
    try:
        if (folder / MARKER).is_file():
            return isinstance(orjson.loads((folder / MARKER).read_bytes()), dict)
        with (folder / CARD).open(encoding="utf-8") as card:
            return CARD_TAGS in card.read(500) and (folder / DATA_FILE).is_file()
    except (OSError, ValueError):
        return False


def _others(folder: Path) -> str | None:
    """Return a file in a folder that is in no export."""
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in (*names, *links):
            path = Path(root, name).relative_to(folder).as_posix()
            if path not in FILES:
                return path
    return None


def _tidy(target: Path) -> None:
    """Remove what killed exports to ``target`` left beside it; called under the parent's lock."""
    start = f".{target.name}"
    for path in sorted(target.parent.iterdir()):
        name = path.name.removesuffix(ASIDE)
        if not name.startswith(start) or not _STAGING.fullmatch(name[len(start) :]):
            continue
        if not path.is_dir() or path.is_symlink() or _others(path) is not None:
            continue
        if path.name.endswith(ASIDE) and not target.exists():
            path.rename(target)  # killed between the two renames
        elif (held := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(held)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other exports from renaming in a folder meanwhile, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """Say that a folder is being written to, until what is returned is closed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
