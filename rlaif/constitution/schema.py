"""JSON Schema of the file format, generated from the models, for completion in editors.

It is looser than the loader: what only the merged constitution can show (unknown ids, a rule that
fits its kind, patterns that compile) is left to ``rlaif constitution lint``.
"""

from typing import Any

import orjson

from rlaif.constitution.file_format import ConstitutionFile
from rlaif.constitution.models import LANGUAGES, Principle

SCHEMA_FILE = "schema/constitution.schema.json"
"""Path of the shipped copy, relative to the folder of the shipped constitutions."""


def constitution_schema() -> dict[str, Any]:
    """Return the schema of a constitution file.

    Without ``extends`` every principle needs a statement, and there is at least one. With it an
    entry may hold nothing but an id and the fields that it changes.
    """
    file = ConstitutionFile.model_json_schema()
    entry = Principle.model_json_schema(ref_template="#/$defs/{model}")
    parts = {name: _tidy(part) for name, part in entry.pop("$defs").items()}
    parts["Rule"]["minProperties"] = 1
    parts["Rule"]["properties"]["language"]["enum"] = sorted(LANGUAGES)
    parts["Principle"] = {**_tidy(entry), "required": ["id"]}
    parts["Principle"]["properties"]["rule"] = entry["properties"]["rule"]  # null takes it away
    properties = {name: _tidy(part) for name, part in file["properties"].items()}
    for name in ("extends", "remove"):
        properties[name] = _one_or_more(properties[name])
    properties["principles"]["items"] = {"$ref": "#/$defs/Principle"}
    whole = {
        "required": ["principles"],
        "properties": {"principles": {"minItems": 1, "items": {"required": ["statement"]}}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Constitution",
        "description": "The principles a model should live by.",
        "type": "object",
        "properties": properties,
        "required": ["name", "version"],
        "additionalProperties": False,
        "if": {"required": ["extends"]},
        "else": whole,
        "$defs": parts,
    }


def render_schema() -> str:
    """Return the schema as the text of its file."""
    return orjson.dumps(constitution_schema(), option=orjson.OPT_INDENT_2).decode() + "\n"


def _one_or_more(schema: dict[str, Any]) -> dict[str, Any]:
    """Accept a single text in place of a list."""
    several = {"type": "array", "items": schema["items"]}
    return {"description": schema["description"], "anyOf": [schema["items"], several]}


def _tidy(schema: Any) -> Any:
    """Drop what only repeats the key (titles), and say ``T`` where pydantic says T or null."""
    if isinstance(schema, list):
        return [_tidy(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _tidy(part) for key, part in schema.items() if not _is_title(key, part)}
    choices = kept.get("anyOf", [])
    if {"type": "null"} in choices and len(choices) == 2:
        del kept["anyOf"]
        kept.pop("default", None)
        kept.update(next(choice for choice in choices if choice != {"type": "null"}))
    return kept


def _is_title(key: str, part: Any) -> bool:
    return key == "title" and isinstance(part, str)
