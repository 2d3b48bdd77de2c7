"""Folders that replace others: a crash at any moment leaves the old one or the new one."""

import os
import shutil
from pathlib import Path

from rlaif.runs.files import sync_folder

ASIDE = ".old"
"""How the name of a folder ends that was renamed to make room for another."""


def replace_folder(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``: what was there is renamed first, and removed last.

    The caller has made sure that ``target`` may be removed. A process that is killed half-way can
    leave the old folder under the name of ``new`` with `ASIDE` at its end.

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
    """Make everything inside a folder survive a power failure."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync_folder(Path(root, name))
        sync_folder(Path(root))
