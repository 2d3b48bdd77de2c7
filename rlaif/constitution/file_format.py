"""The file format: what a constitution file may hold, and its mistakes in words.

A file differs from a `Constitution` in three ways: it may extend others, it may remove some of
their principles, and its entries may give only the fields that they change.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rlaif.config import nearest
from rlaif.constitution.findings import Finding, Spot
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

_PARTS: dict[str, type[BaseModel]] = {"rule": Rule, "examples": Example}
_ONLY_WHEN_MERGED = {"rule_missing", "rule_unused"}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ConstitutionFile(BaseModel):
    """A constitution as it is written down."""

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
    """Check the keys of the file itself; its principles are only seen to be mappings."""
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
    """Check a merged principle; each mistake stands where its field was last given."""
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
    code, message, mend = _explain(error, key, owner)
    return spot.finding("error", code, message, mend, principle=principle)


def _explain(error: Any, key: str, owner: type[BaseModel]) -> tuple[str, str, str]:
    """Return code, what is wrong and how to mend it."""
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
            mend = "write lower-case words joined by hyphens" + (f": {slug}" if slug else "")
            return "bad-id", f"{key}: {_show(given)} is not an id", mend
        case kind if kind in _TYPES:
            message = f"{key} must be {_TYPES[kind]} (found {_show(given)})"
            return "wrong-type", message, _retype(given, kind)
        case kind:
            code, message, mend = _FIXED.get(kind, ("invalid", "{key}: {msg}", ""))
            facts = {**error.get("ctx", {}), "key": key, "msg": error["msg"], "given": given}
            return code, message.format_map(facts), mend.format_map(facts)


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
    "string_too_short": ("empty-text", "{key} is empty", "write at least a word"),
    "bad_regex": (
        "bad-regex",
        "{key} is {msg}",
        "mend the pattern; single quotes keep its backslashes as they are",
    ),
    "empty_rule": (
        "empty-rule",
        "{key} holds no check",
        f"give at least one of {', '.join(Rule.model_fields)}",
    ),
    "impossible_rule": ("impossible-rule", "{msg}", "change one of the two"),
    "rule_missing": ("rule-missing", "{msg}", "add rule: with at least one check"),
    "rule_unused": ("rule-unused", "{msg}", "add kind: rule, or take the rule out"),
}


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return "a list"
    return "keys and values" if isinstance(value, Mapping) else f"{value!r:.60}"


def _retype(value: Any, wanted: str) -> str:
    """How to write the value that was meant, where that can be guessed."""
    if wanted == "string_type" and isinstance(value, int | float):
        return f'put it in quotes: "{value}"'
    if wanted == "tuple_type" and isinstance(value, str):
        return f"write a list: [{value}]" if value.isprintable() else "write a list"
    if wanted in ("int_type", "float_type") and isinstance(value, str):
        return "write a number, without quotes"
    return "mend or remove it"
