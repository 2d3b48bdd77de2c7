"""Folders that replace others, and files that may not: nothing is lost that is not ours."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from rlaif.errors import InputError
from rlaif.runs.files import sync_folder
from rlaif.runs.layout import Layout

ASIDE = ".old"
"""How the name of a folder ends that was renamed to make room for another."""


def replace_folder(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``: what was there is renamed first, and removed last.

    A crash at any moment leaves the old folder or the new one. The caller has made sure that
    ``target`` may be removed. A process that is killed half-way can leave the old folder under the
    name of ``new`` with `ASIDE` at its end.

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


def check_results_folder(folder: Path, names: Iterable[str]) -> None:
    """Check that writing results into a folder overwrites no file of the user.

    Ours lie beside the ledger of the calls they were made from.

    Args:
        folder: Where results will be written; it need not exist.
        names: Files that will be written.

    Raises:
        InputError: One of them is there, and no ledger.
    """
    ledger = Layout(folder).ledger
    taken = [name for name in names if (folder / name).exists()]
    if taken and not ledger.exists():
        raise InputError(
            f"{folder}: holds {taken[0]} but no {ledger.name}, so it is not an earlier result",
            hint="choose another folder as `out`, or move the file away",
        )
