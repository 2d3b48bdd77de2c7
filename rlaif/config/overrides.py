"""Settings given on the command line: ``--set key=value``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rlaif.config.yaml import Place, parse_yaml
from rlaif.errors import ConfigError


class FromCommandLine(str):
    """Text given with ``--set``: relative paths in it start at the working directory."""

    __slots__ = ()


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` texts.

    A value that is valid JSON is taken as such; so is a list or mapping in YAML's brackets, such as
    ``[a, b]`` and ``{a: 1}``; anything else is text.

    Raises:
        ConfigError: A text without ``=`` or without a key.
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
        The places that were changed, and their keys as they were given.

    Raises:
        ConfigError: A key leads into what has no parts, or past the end of a list.
    """
    return {
        _override(data, dotted, _mark_strings(value)): dotted for dotted, value in overrides.items()
    }


def _value_of(text: str) -> Any:
    try:
        # Not orjson, which makes floats of integers beyond 64 bits.
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError):
        pass
    if f"{text[:1]}{text[-1:]}" not in ("[]", "{}"):
        return text
    try:
        return parse_yaml(text, Path("--set"), ConfigError).data
    except ConfigError:  # a pattern of file names, for one
        return text


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


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
