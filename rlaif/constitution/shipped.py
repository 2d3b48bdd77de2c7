"""Look up constitutions: an explicit file first, then those shipped with the package."""

import difflib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (
    _PACKAGE / "_shipped" / "constitution",  # in the wheel
    _PACKAGE.parent / "constitution",  # in a checkout, where nothing is copied into the package
)


def shipped_folder() -> Path:
    """Return the folder that holds the shipped constitutions."""
    return next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])


def shipped_names() -> tuple[str, ...]:
    """Return the names of the shipped constitutions, such as ``hhh``."""
    return tuple(sorted(path.stem for path in shipped_folder().glob("*.yaml")))


def find_constitution(source: str | Path, base: Path) -> Path | None:
    """Return the file that ``source`` names; None if there is none.

    Args:
        source: A path, relative to ``base``; or a shipped name, with or without ``.yaml``.
        base: A folder; ``Path()`` for the working directory.
    """
    path = Path(source).expanduser()
    if _is_file(base / path):
        return base / path
    if len(path.parts) != 1:
        return None
    shipped = shipped_folder() / f"{path.name.removesuffix('.yaml')}.yaml"
    return shipped if _is_file(shipped) else None


def suggest_shipped(source: str | Path) -> str:
    """Return a hint for a name that was not found: the nearest shipped one, and all of them."""
    names = shipped_names()
    close = difflib.get_close_matches(Path(source).stem, names, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}shipped are {', '.join(names)}"


def is_folder(source: str | Path) -> bool:
    """Whether ``source`` names a folder, which cannot be a constitution."""
    try:
        return Path(source).expanduser().is_dir()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name too long for the file system
        return False
