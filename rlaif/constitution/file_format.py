"""The file format: what a constitution file may hold, and how its mistakes are reported.

A file differs from a `Constitution` in three ways: it may extend others, it may remove some of
their principles, and its entries may give only the fields that they change.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rlaif.config import Document, nearest
from rlaif.constitution.models import (
    LANGUAGES,
    Description,
    Example,
    Name,
    Principle,
    RequiredText,
    Rule,
    Slug,
    Version,
)

Severity = Literal["error", "warning", "info"]

_PARTS: dict[str, type[BaseModel]] = {"rule": Rule, "examples": Example}
_ONLY_WHEN_MERGED = {"rule_missing", "rule_unused"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem. As text it is one line: file:line:column: what; how to fix it."""

    file: str
    line: int
    """From 1; 0 for a constitution built in Python, which has no lines."""

    column: int
    severity: Severity
    code: str
    """Stable kebab-case name of the kind of finding, such as ``unknown-key``."""

    message: str
    fix: str
    principle: str = ""
    """Id of the principle it is about; empty when it is about the file."""

    @property
    def where(self) -> str:
        """file:line:column, or the file alone when there are no lines."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        fix = f"; {self.fix}" if self.fix else ""
        return f"{self.where}: {self.message}{fix}"

    def as_json(self) -> dict[str, Any]:
        """Return all fields, for one line of ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Spot:
    """The place in a file that a value was read from."""

    document: Document
    place: tuple[str | int, ...] = ()

    def within(self, *steps: str | int) -> "Spot":
        """Return the spot of a nested value, by its keys and indices."""
        return Spot(self.document, (*self.place, *steps))

    @property
    def position(self) -> tuple[int, int]:
        """Line and column from 1 of the innermost part that has them; zeros without lines."""
        place = self.place
        while place and place not in self.document.positions:
            place = place[:-1]
        return self.document.positions.get(place, (0, 0))

    def finding(
        self,
        severity: Severity,
        code: str,
        message: str,
        fix: str = "",
        *,
        principle: str = "",
    ) -> Finding:
        """Return a finding at this spot."""
        line, column = self.position
        file = str(self.document.path)
        return Finding(file, line, column, severity, code, message, fix, principle)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ConstitutionFile(BaseModel):
    """Schema of a constitution file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    version: Version
    description: Description = ""
    extends: Annotated[tuple[RequiredText, ...], BeforeValidator(_as_list)] = Field(
        (),
        description="Constitutions to start from: files relative to this one, or shipped names. "
        "Later ones override earlier ones, and this file overrides them all.",
    )
    remove: Annotated[tuple[Slug, ...], BeforeValidator(_as_list)] = Field(
        (), description="Ids of principles to take out of what was extended."
    )
    principles: tuple[dict[str, Any], ...] = Field(
        (), description="The principles; with extends, those that are added or changed."
    )


def check_file(data: Any, spot: Spot) -> Iterator[Finding]:
    """Check the keys of the file itself; of its principles only that they are mappings."""
    if not isinstance(data, Mapping):
        yield spot.finding(
            "error",
            "wrong-type",
            f"expected keys and values, found {_show(data)}",
            "start with name:",
        )
        return
    for error in _errors(ConstitutionFile, data):
        place = tuple(error["loc"])
        yield _finding(error, ConstitutionFile, spot.within(*place), place)


def check_entry(entry: Mapping[str, Any], spot: Spot) -> Iterator[Finding]:
    """Check the fields that one principle entry gives; those it does not give may be inherited."""
    for error in _errors(Principle, entry):
        place = tuple(error["loc"])
        if error["type"] in _ONLY_WHEN_MERGED or (error["type"] == "missing" and len(place) == 1):
            continue
        yield _finding(error, _owner(place), spot.within(*place), place, _id_of(entry))


def check_principle(fields: Mapping[str, Any], spots: Mapping[str, Spot]) -> Iterator[Finding]:
    """Check a merged principle; each mistake is reported where its field was last given."""
    for error in _errors(Principle, fields):
        place = tuple(error["loc"])
        name = {"rule_missing": "kind", "rule_unused": "rule"}.get(error["type"])
        name = name or (str(place[0]) if place else "id")
        entry = Spot(spots["id"].document, spots["id"].place[:-1])
        spot = spots.get(name, entry.within(name)).within(*place[1:])
        yield _finding(error, _owner(place), spot, place, _id_of(fields))


def _errors(kind: type[BaseModel], data: Mapping[str, Any]) -> list[Any]:
    try:
        kind.model_validate(data)
    except ValidationError as problem:
        return list(problem.errors(include_url=False))
    return []


def _owner(place: tuple[Any, ...]) -> type[BaseModel]:
    return _PARTS.get(str(place[0]), Principle) if len(place) > 1 else Principle


def _id_of(fields: Mapping[str, Any]) -> str:
    return str(fields.get("id", ""))


def _finding(
    error: Any,
    owner: type[BaseModel],
    spot: Spot,
    place: tuple[Any, ...],
    principle: str = "",
) -> Finding:
    shown = place if spot.document.positions else spot.place
    key = ".".join(str(step) for step in shown) or "the principle"
    code, message, fix = _explain(error, key, owner)
    return spot.finding("error", code, message, fix, principle=principle)


def _explain(error: Any, key: str, owner: type[BaseModel]) -> tuple[str, str, str]:
    """Return the code, what is wrong and how to fix it."""
    given = error["input"]
    match error["type"]:
        case "extra_forbidden":
            near = nearest(str(error["loc"][-1]), list(owner.model_fields))
            return "unknown-key", f"unknown key {key!r}", near.removeprefix("; ")
        case "missing":
            about = owner.model_fields[str(error["loc"][-1])].description or ""
            return "missing-key", f"{key} is missing", f"add it: {about[:1].lower()}{about[1:]}"
        case "literal_error":
            expected = re.findall(r"'(\w+)'", error["ctx"]["expected"])
            near = nearest(str(given), expected) if expected else "; write true, or leave it out"
            return "not-allowed", f"{key}: {_show(given)} is not allowed", near.removeprefix("; ")
        case "unknown_language":
            near = nearest(given, sorted(LANGUAGES)).removeprefix("; ")
            return "unknown-language", f"{key}: {error['msg']}", near
        case "string_pattern_mismatch":
            slug = re.sub(r"[^a-z0-9]+", "-", given.lower()).strip("-")
            fix = "write lower-case words joined by hyphens" + (f": {slug}" if slug else "")
            return "bad-id", f"{key}: {_show(given)} is not a valid id", fix
        case kind if kind in _TYPES:
            message = f"{key} must be {_TYPES[kind]} (found {_show(given)})"
            return "wrong-type", message, _retype(given, kind)
        case kind:
            code, message, fix = _FIXED.get(kind, ("invalid", "{key}: {msg}", ""))
            facts = {**error.get("ctx", {}), "key": key, "msg": error["msg"], "given": given}
            return code, message.format_map(facts), fix.format_map(facts)


_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
}

_FIXED = {
    "greater_than_equal": ("out-of-range", "{key} is {given}", "write {ge:g} or more"),
    "string_too_short": ("empty-text", "{key} is empty", "write at least one word"),
    "bad_regex": (
        "bad-regex",
        "{key} is {msg}",
        "fix the pattern; put it in single quotes so that YAML keeps its backslashes",
    ),
    "empty_rule": (
        "empty-rule",
        "{key} has no checks",
        f"add at least one of {', '.join(Rule.model_fields)}",
    ),
    "impossible_rule": ("impossible-rule", "{msg}", "change one of them"),
    "rule_missing": ("rule-missing", "{msg}", "add rule: with at least one check"),
    "rule_unused": ("rule-unused", "{msg}", "add kind: rule, or remove the rule"),
}


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return "a list"
    return "keys and values" if isinstance(value, Mapping) else f"{value!r:.60}"


def _retype(value: Any, expected: str) -> str:
    """Return how to write the intended value, where it can be guessed."""
    if expected == "string_type" and isinstance(value, int | float):
        return f'put it in quotes: "{value}"'
    if expected == "tuple_type" and isinstance(value, str):
        return f"write a list: [{value}]" if value.isprintable() else "write a list"
    if expected in ("int_type", "float_type") and isinstance(value, str):
        return "write a number, without quotes"
    return "fix or remove it"
