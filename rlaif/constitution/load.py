"""From YAML to a constitution: look-up, ``extends``, overrides; every mistake with its position.

Merging is per field: an entry for an id that was extended replaces the fields it gives and keeps
the others, so that a new weight needs no copy of the wording. Lists and ``rule`` are replaced
whole. A principle keeps its first place in the order; new ones come after.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlaif.config import Document, load_yaml, nearest
from rlaif.constitution.file_format import (
    Finding,
    Spot,
    check_entry,
    check_file,
    check_principle,
)
from rlaif.constitution.models import Constitution, Principle
from rlaif.constitution.shipped import (
    find_constitution,
    is_folder,
    shipped_names,
    suggest_shipped,
)
from rlaif.errors import ConstitutionError

_HEAD = ("name", "version", "description")


@dataclass(frozen=True, slots=True)
class Draft:
    """A principle while its files are merged: the value of each field, and its position."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    spots: Mapping[str, Spot] = field(default_factory=dict)

    def merged(self, later: "Draft") -> "Draft":
        """Return this draft with the fields of a later one replacing its own."""
        return Draft({**self.fields, **later.fields}, {**self.spots, **later.spots})


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """The result of reading a constitution file: the constitution, or the problems in the way."""

    constitution: Constitution | None
    problems: tuple[Finding, ...]
    spots: Mapping[str, Mapping[str, Spot]]
    """The position of each given field of each principle, by id and field name."""

    root: Spot
    """The file itself, not those it extends."""

    def sources(self, principle_id: str) -> dict[str, tuple[str, ...]]:
        """Return the files a principle comes from, each with the fields it gave last."""
        files: dict[str, tuple[str, ...]] = {}
        for name, spot in self.spots[principle_id].items():
            file = str(spot.document.path)
            files[file] = (*files.get(file, ()), name)
        return files


def load_constitution(source: str | Path) -> Constitution:
    """Read a constitution.

    Args:
        source: A file; or the name of a shipped constitution, such as ``hhh``.

    Raises:
        ConstitutionError: Lists every problem, one per line: where, what, how to fix it.
    """
    return finish(read_constitution(source))


def constitution_from_mapping(data: Mapping[str, Any], *, base: Path | None = None) -> Constitution:
    """Build a constitution from plain data with the keys of a file.

    Args:
        data: What a YAML file would hold; ``extends`` and overrides work as in a file.
        base: The folder that ``extends`` is relative to (default: the working directory).

    Raises:
        ConstitutionError: Lists every problem, one per line, by key instead of line number.
    """
    path = (base or Path()) / "<constitution>"
    return finish(_read(Document(path, _plain(data), {})))


def read_constitution(source: str | Path) -> LoadedFile:
    """Read a constitution and keep its problems instead of raising them."""
    path = find_constitution(source, Path())
    if path is None:
        message = "not found: neither a file nor a shipped constitution"
        if is_folder(source):
            message = "is a folder, not a file"
        return _unreadable(_on_one_line(source), "missing-file", message, suggest_shipped(source))
    try:
        return _read(load_yaml(path, ConstitutionError))
    except ConstitutionError as problem:
        return _unreadable(str(path), "unreadable-file", problem.message, problem.hint)


def _unreadable(file: str, code: str, message: str, fix: str) -> LoadedFile:
    """Return the result for a file without data; a position in the message becomes its own."""
    message = message.removeprefix(f"{file}:").strip()
    position = re.match(r"(\d+):(\d+): ", message)
    line, column = (int(position[1]), int(position[2])) if position else (0, 0)
    message = message[position.end() :] if position else message
    problem = Finding(file, line, column, "error", code, message, fix)
    return LoadedFile(None, (problem,), {}, Spot(Document(Path(file), None, {})))


def finish(loaded: LoadedFile) -> Constitution:
    """Return the constitution of a loaded file.

    Raises:
        ConstitutionError: The file has problems; the message lists them.
    """
    if loaded.constitution is None:
        raise ConstitutionError("\n".join(str(problem) for problem in loaded.problems))
    return loaded.constitution


def _read(document: Document) -> LoadedFile:
    reader = _Reader()
    root = Spot(document)
    drafts = reader.file(document, ())
    principles = tuple(reader.principles(drafts))
    if not drafts and not reader.problems:
        reader.add(
            root.within("principles"),
            "no-principles",
            "no principles",
            "add one under principles:, or extend a constitution",
        )
    spots = {principle_id: draft.spots for principle_id, draft in drafts.items()}
    if reader.problems:
        return LoadedFile(None, in_file_order(reader.problems, root), spots, root)
    head = {key: document.data[key] for key in _HEAD if key in document.data}
    return LoadedFile(Constitution(**head, principles=principles), (), spots, root)


def in_file_order(findings: list[Finding], root: Spot) -> tuple[Finding, ...]:
    """Return each finding once: those in the file itself first, then those in files it extends."""
    own = str(root.document.path)
    once = dict.fromkeys(findings)
    return tuple(sorted(once, key=lambda f: (f.file != own, f.file, f.line, f.column)))


@dataclass(slots=True)
class _Reader:
    """Reads a file and those it extends, and collects the problems of all of them."""

    problems: list[Finding] = field(default_factory=list)

    def file(self, document: Document, chain: tuple[Path, ...]) -> dict[str, Draft]:
        """Return the drafts of one file after its ``extends`` and ``remove``, in order."""
        root = Spot(document)
        self.problems += check_file(document.data, root)
        data = document.data if isinstance(document.data, dict) else {}
        chain = (*chain, document.path.resolve())
        drafts = self._extended(_texts(data.get("extends")), root.within("extends"), chain)
        self._remove(_texts(data.get("remove")), root.within("remove"), drafts)
        for entry, spot in self._entries(data.get("principles"), root.within("principles")):
            later = Draft(entry, {name: spot.within(name) for name in entry})
            drafts[entry["id"]] = drafts.get(entry["id"], Draft()).merged(later)
        return drafts

    def principles(self, drafts: Mapping[str, Draft]) -> list[Principle]:
        """Build the valid principles; the mistakes of the others become problems."""
        built = []
        for draft in drafts.values():
            mistakes = list(check_principle(draft.fields, draft.spots))
            if "statement" not in draft.fields:
                mistakes = [_perhaps_misspelt(mistake, drafts) for mistake in mistakes]
            self.problems += mistakes
            if not mistakes:
                built.append(Principle.model_validate(draft.fields))
        return built

    def _extended(self, names: list[str], spot: Spot, chain: tuple[Path, ...]) -> dict[str, Draft]:
        drafts: dict[str, Draft] = {}
        for index, name in enumerate(names):
            document = self._open(name, spot.within(index), chain)
            if document is None:
                continue
            for principle_id, later in self.file(document, chain).items():
                drafts[principle_id] = drafts.get(principle_id, Draft()).merged(later)
        return drafts

    def _open(self, name: str, spot: Spot, chain: tuple[Path, ...]) -> Document | None:
        path = find_constitution(name, spot.document.path.parent)
        if path is None:
            message = f"extends {name!r}: not found, neither a file nor a shipped constitution"
            self.add(spot, "missing-file", message, suggest_shipped(name))
        elif path.resolve() in chain:
            start = chain.index(path.resolve())
            circle = " → ".join(link.name for link in (*chain[start:], path))
            self.add(spot, "cycle", f"extends is circular: {circle}", _way_out(path))
        else:
            try:
                return load_yaml(path, ConstitutionError)
            except ConstitutionError as problem:
                message = f"extends {name!r}: {problem.message}"
                self.add(spot, "unreadable-file", message, problem.hint)
        return None

    def _remove(self, ids: list[str], spot: Spot, drafts: dict[str, Draft]) -> None:
        for index, principle_id in enumerate(ids):
            if drafts.pop(principle_id, None) is None:
                near = nearest(principle_id, list(drafts)).removeprefix("; ")
                message = f"remove: no extended principle has the id {principle_id!r}"
                self.add(
                    spot.within(index), "unknown-id", message, near or "delete it from the list"
                )

    def _entries(self, entries: Any, spot: Spot) -> Iterator[tuple[dict[str, Any], Spot]]:
        """Yield the entries that have an id, each id once; report the others."""
        seen: dict[str, Spot] = {}
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            here = spot.within(index)
            if not isinstance(entry, dict):
                continue  # reported with the keys of the file
            self.problems += check_entry(entry, here)
            principle_id = entry.get("id")
            if principle_id is None:
                self.add(here, "missing-key", "id is missing", "add id: such as be-brief")
            elif isinstance(principle_id, str) and principle_id in seen:
                first = seen[principle_id].finding("error", "duplicate-id", "").where
                message = f"duplicate id {principle_id!r}, used before at {first}"
                self.add(here.within("id"), "duplicate-id", message, "rename one of them")
            elif isinstance(principle_id, str):
                seen[principle_id] = here.within("id")
                yield entry, here

    def add(self, spot: Spot, code: str, message: str, fix: str) -> None:
        """Record one problem."""
        self.problems.append(spot.finding("error", code, message, fix))


def _texts(value: Any) -> list[str]:
    """The texts of a list, or of a single text; anything else was reported already."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _perhaps_misspelt(mistake: Finding, drafts: Mapping[str, Draft]) -> Finding:
    """Suggest an extended id where an entry without a statement may mean that one."""
    whole = [other for other, draft in drafts.items() if "statement" in draft.fields]
    near = nearest(mistake.principle, whole)
    if mistake.code != "missing-key" or "did you mean" not in near:
        return mistake
    message = f"{mistake.message}, and no extended principle has the id {mistake.principle!r}"
    return replace(mistake, message=message, fix=near.removeprefix("; "))


def _on_one_line(source: str | Path) -> str:
    """The source as shown in messages; by mistake it may be the text of a whole file."""
    return " ".join(str(source).split())[:200]


def _way_out(path: Path) -> str:
    if path.stem in shipped_names():
        return f"remove one link; to extend the shipped constitution, write {path.stem!r}"
    return "remove one link"


def _plain(value: Any) -> Any:
    """Lists and dictionaries all the way down, as YAML would give them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
