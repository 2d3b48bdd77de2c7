"""From records to what JSON can hold."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar


class Plain:
    """A dataclass that can be written as JSON, with everything in it."""

    __slots__ = ()
    _derived: ClassVar[tuple[str, ...]] = ()
    """Properties that are written too, after the fields."""

    def to_json(self) -> dict[str, Any]:
        """Return fields and derived values by name, JSON-compatible."""
        return plain_fields(self) | {name: _plain(getattr(self, name)) for name in self._derived}


def plain_fields(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, JSON-compatible."""
    return {one.name: _plain(getattr(record, one.name)) for one in fields(record)}


def _plain(value: Any) -> Any:
    match value:
        case Plain():
            return value.to_json()
        case Path():
            return str(value)
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case tuple():
            return tuple(_plain(item) for item in value)
        case _ if is_dataclass(value):
            return plain_fields(value)
        case _:
            return value
