"""`rlaif init`: a project to start from."""

import tempfile
from contextlib import suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import orjson
import typer

from rlaif.cli.output import print
from rlaif.errors import InputError, RunError
from rlaif.templates import shipped_folder

_PER_KIND = {
    "prompts.jsonl": ("train.jsonl", {"helpful": 16, "red-team": 4, "borderline": 4}),
    "heldout.jsonl": ("heldout.jsonl", {"helpful": 8, "red-team": 2, "borderline": 2}),
}
"""File to write: the seed prompts it is taken from, and how many of each kind."""


def init(
    directory: Annotated[Path, typer.Argument(help="The folder to write to.")] = Path(),
) -> None:
    """Write a project to start from: constitution, prompts, and a file for every step."""
    written = write_project(directory)
    for path in written:
        print(path)
    start = "" if directory == Path() else f"cd {directory} && "
    print(f"next: {start}rlaif generate run.yaml   (README.md tells the rest)")


def write_project(directory: Path) -> list[Path]:
    """Write the files of a new project, all of them or none; return their paths.

    Raises:
        InputError: One of the files exists already, or ``directory`` is not a folder.
        RunError: The folder cannot be written.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: is a file, not a folder")
    contents = _contents()
    folders = {folder for name in contents for folder in Path(name).parents}
    taken = [name for name in contents if (directory / name).exists()]
    taken += [
        str(folder)
        for folder in sorted(folders - {Path()})
        if (directory / folder).exists() and not (directory / folder).is_dir()
    ]
    if taken:
        raise InputError(
            f"{directory}: already holds {', '.join(taken)}; nothing was written",
            hint="choose an empty folder: rlaif init FOLDER",
        )
    try:
        return _write_all(directory, contents)
    except OSError as problem:
        raise RunError(f"{directory}: cannot be written: {problem.strerror}") from None


def _contents() -> dict[str, bytes]:
    """Return the relative path and the content of every file."""
    contents = dict(_read_all(files("rlaif.cli") / "project"))
    for name, (source, per_kind) in _PER_KIND.items():
        contents[name] = _first_of_each(shipped_folder() / "seed" / source, per_kind)
    return dict(sorted(contents.items()))


def _read_all(folder: Traversable, before: str = "") -> list[tuple[str, bytes]]:
    entries = []
    for entry in folder.iterdir():
        if entry.is_dir():
            entries += _read_all(entry, f"{before}{entry.name}/")
        else:
            entries.append((f"{before}{entry.name}", entry.read_bytes()))
    return entries


def _first_of_each(source: Path, per_kind: dict[str, int]) -> bytes:
    """Return the first so many prompts of each kind, as lines."""
    left = dict(per_kind)
    lines = []
    for line in source.read_bytes().splitlines(keepends=True):
        kind = orjson.loads(line)["kind"]
        if left.get(kind, 0) > 0:
            left[kind] -= 1
            lines.append(line)
    return b"".join(lines)


def _write_all(directory: Path, contents: dict[str, bytes]) -> list[Path]:
    """Write everything aside first, then move it into place; take it back if a move fails."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    moved: list[Path] = []
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".init-") as aside:
            for number, content in enumerate(contents.values()):
                (Path(aside) / str(number)).write_bytes(content)
            for number, name in enumerate(contents):
                target = directory / name
                for folder in reversed(target.relative_to(directory).parents[:-1]):
                    if not (directory / folder).exists():
                        missing.insert(0, directory / folder)
                        (directory / folder).mkdir()
                (Path(aside) / str(number)).rename(target)
                moved.append(target)
    except OSError:
        for path in moved:
            path.unlink(missing_ok=True)
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise
    return moved
