"""YAML with positions and ``--set``: plain data, and line and column of each part of it.

YAML 1.2 (``no`` is text, not false) with merge keys (``<<``) and safe tags only; duplicate keys are
errors. Settings and constitutions are read here, so that every message can say file:line:column.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rlaif.errors import ConfigError, InputError

Place = tuple[str | int, ...]
"""A path into the data, such as ("judges", 0, "model")."""

_MERGE = "tag:yaml.org,2002:merge"
_MOST_NODES = 200_000  # aliases can blow up a small file; real files stay far below this


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data and the positions of its parts."""

    path: Path
    data: Any
    positions: Mapping[Place, tuple[int, int]]
    """Line and column, both from 1, of each key (mappings) or item (sequences)."""

    def where(self, place: Place = ()) -> str:
        """Return file:line:column of the nearest known part at or above ``place``."""
        if not self.positions:
            return str(self.path)
        while place and place not in self.positions:
            place = place[:-1]
        line, column = self.positions.get(place, (1, 1))
        return f"{self.path}:{line}:{column}"


def read_text(path: Path, error: Callable[..., InputError]) -> str:
    """Read a UTF-8 text file; ``error`` is the class to raise when that fails."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except IsADirectoryError:
        raise error(f"{path}: is a folder, not a file") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        byte = f"byte {problem.start} is 0x{problem.object[problem.start]:02x}"
        raise error(
            f"{path}: not UTF-8 text ({byte})",
            hint="save the file as UTF-8",
        ) from None


def load_yaml(path: Path, error: Callable[..., InputError]) -> Document:
    """Read one YAML file.

    Args:
        path: The file.
        error: The class to raise, with the message and a ``hint``.

    Raises:
        InputError: As ``error``: unreadable, empty, malformed, several documents, unknown tag.
    """
    return parse_yaml(read_text(path, error), path, error)


def parse_yaml(text: str, path: Path, error: Callable[..., InputError]) -> Document:
    """The same for text; ``path`` is its name in messages."""
    yaml = YAML(typ="safe", pure=True)
    try:
        nodes = [node for node in yaml.compose_all(text) if node is not None]
    except MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise error(f"{where}: not valid YAML: {problem.problem or problem.context}") from None
    except RecursionError:
        raise error(f"{path}: not valid YAML: nested too deeply") from None
    except YAMLError as problem:
        line = str(problem).strip().splitlines()[0]
        raise error(f"{path}: not valid YAML: {line}") from None
    if not nodes:
        raise error(f"{path}: the file is empty")
    if len(nodes) > 1:
        raise error(f"{path}: holds {len(nodes)} YAML documents; one is expected")
    positions: dict[Place, tuple[int, int]] = {}
    data = _Builder(path, positions, error).build(nodes[0], ())
    return Document(path, data, positions)


class _Builder:
    """Turns nodes into plain data and records positions."""

    def __init__(
        self,
        path: Path,
        positions: dict[Place, tuple[int, int]],
        error: Callable[..., InputError],
    ) -> None:
        self._path = path
        self._positions = positions
        self._error = error
        self._active: set[int] = set()
        self._merging: set[int] = set()
        self._count = 0
        self._scalars = YAML(typ="safe", pure=True).constructor

    def build(self, node: Node, place: Place) -> Any:
        self._count += 1
        if self._count > _MOST_NODES or id(node) in self._active:
            raise self._fail(node, "aliases refer to themselves or expand too far")
        self._positions.setdefault(place, self._mark(node))
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        self._active.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.build(item, (*place, i)) for i, item in enumerate(node.value)]
            assert isinstance(node, MappingNode)
            return self._mapping(node, place)
        finally:
            self._active.discard(id(node))

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, key_node, value_node in self._pairs(node):
            self._positions[(*place, key)] = self._mark(key_node)
            data[key] = self.build(value_node, (*place, key))
        return data

    def _pairs(self, node: MappingNode) -> list[tuple[str, Node, Node]]:
        """Return the keys of a mapping, then those it merges (``<<``) without overriding them."""
        own: dict[str, tuple[str, Node, Node]] = {}
        merged: list[Node] = []
        merge_key: Node | None = None
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                if merge_key is not None:
                    raise self._fail(key_node, "the key '<<' is given twice; give it a list")
                merge_key = key_node
                listed = isinstance(value_node, SequenceNode)
                merged = list(value_node.value) if listed else [value_node]
                continue
            key = self._scalar(key_node) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str):
                raise self._fail(key_node, f"a key must be text, not {key!r}")
            if key in own:
                raise self._fail(key_node, f"the key {key!r} is given twice")
            own[key] = (key, key_node, value_node)
        for part in merged:
            if not isinstance(part, MappingNode):
                raise self._fail(merge_key or node, "<< merges mappings only, such as <<: *name")
            for pair in self._merged_pairs(part):
                own.setdefault(pair[0], pair)
        return list(own.values())

    def _merged_pairs(self, part: MappingNode) -> list[tuple[str, Node, Node]]:
        if id(part) in self._merging:
            raise self._fail(part, "aliases refer to themselves or expand too far")
        self._merging.add(id(part))
        try:
            pairs = self._pairs(part)
        finally:
            self._merging.discard(id(part))
        self._count += len(pairs) + 1
        if self._count > _MOST_NODES:
            raise self._fail(part, "aliases refer to themselves or expand too far")
        return pairs

    def _scalar(self, node: ScalarNode) -> Any:
        try:
            return self._scalars.construct_object(node, deep=True)
        except (YAMLError, ValueError) as problem:
            message = getattr(problem, "problem", None) or str(problem)
            raise self._fail(node, message) from None

    def _mark(self, node: Node) -> tuple[int, int]:
        return node.start_mark.line + 1, node.start_mark.column + 1

    def _fail(self, node: Node, message: str) -> InputError:
        line, column = self._mark(node)
        return self._error(f"{self._path}:{line}:{column}: {message}")


class FromCommandLine(str):
    """Text given with ``--set``: relative paths in it start at the working directory."""

    __slots__ = ()


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` texts.

    Values that are valid JSON are read as JSON, lists and mappings such as ``[a, b]`` and
    ``{a: 1}`` as YAML, anything else as text.

    Raises:
        ConfigError: A text has no ``=`` or no key.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r}: expected key=value")
        overrides[key.strip()] = _value_of(value)
    return overrides


def apply_overrides(data: dict[str, Any], overrides: Mapping[str, Any]) -> dict[Place, str]:
    """Change settings in place.

    Args:
        data: Plain settings.
        overrides: Dotted keys to values.

    Returns:
        The places that were changed, and their keys as given.

    Raises:
        ConfigError: A key leads into a value without parts, or past the end of a list.
    """
    return {
        _override(data, dotted, _mark_strings(value)): dotted for dotted, value in overrides.items()
    }


def _value_of(text: str) -> Any:
    try:
        # Not orjson, which turns integers beyond 64 bits into floats.
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_distinct)
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError):
        pass
    if f"{text[:1]}{text[-1:]}" not in ("[]", "{}"):
        return text
    try:
        return parse_yaml(text, Path("--set"), ConfigError).data
    except ConfigError:  # such as a pattern of file names
        return text


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a key is given twice")
    return data


def _mark_strings(value: Any) -> Any:
    if isinstance(value, str):
        return FromCommandLine(value)
    if isinstance(value, dict):
        return {key: _mark_strings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mark_strings(item) for item in value]
    return value


def _override(data: dict[str, Any], dotted: str, value: Any) -> Place:
    *parents, last = dotted.split(".")
    target: Any = data
    place: list[str | int] = []
    for step, name in enumerate(parents):
        where = ".".join(parents[: step + 1])
        if isinstance(target, list):
            index = _index(target, name, dotted, where)
            place.append(index)
            target = target[index]
        else:
            place.append(name)
            if target.get(name) is None:
                target[name] = {}
            target = target[name]
        if not isinstance(target, dict | list):
            raise ConfigError(f"--set {dotted}: {where} is {target!r:.40}, which has no parts")
    key = _index(target, last, dotted, dotted) if isinstance(target, list) else last
    target[key] = value
    return (*place, key)


def _index(items: list[Any], name: str, dotted: str, where: str) -> int:
    if not name.isdecimal() or int(name) >= len(items):
        raise ConfigError(
            f"--set {dotted}: {where} is not one of the {len(items)} items of that list (from 0)"
        )
    return int(name)
