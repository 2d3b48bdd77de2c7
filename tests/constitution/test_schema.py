import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from pydantic import BaseModel

from rlaif.config import load_yaml
from rlaif.constitution import Example, Principle, Rule
from rlaif.constitution.file_format import ConstitutionFile
from rlaif.constitution.schema import SCHEMA_FILE, constitution_schema, render_schema
from rlaif.constitution.shipped import shipped_folder
from rlaif.errors import ConstitutionError
from tests.constitution.factories import ROOT, SHIPPED

SHIPPED_FILES = sorted((ROOT / "constitution").glob("*.yaml"))
HEAD = {"name": "n", "version": "v"}
WISH = {"id": "a", "statement": "A wish."}


def valid(data: dict[str, Any]) -> bool:
    schema = constitution_schema()
    return bool(jsonschema.Draft202012Validator(schema).is_valid(data))


def test_the_shipped_schema_matches_the_models():
    cure = (
        "run: rlaif constitution schema --out constitution/schema/constitution.schema.json --force"
    )
    text = (shipped_folder() / SCHEMA_FILE).read_text(encoding="utf-8")
    assert text == render_schema(), cure
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


def test_every_shipped_file_is_listed():
    assert tuple(path.stem for path in SHIPPED_FILES) == SHIPPED


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.stem)
def test_shipped_files_fit_the_schema_and_name_it_to_editors(path):
    assert valid(load_yaml(path, ConstitutionError).data)
    modeline = f"# yaml-language-server: $schema=./{SCHEMA_FILE}"
    assert path.read_text(encoding="utf-8").splitlines()[0] == modeline
    assert (path.parent / SCHEMA_FILE).is_file()


def test_every_key_is_described_for_editors():
    schema = constitution_schema()
    places: dict[str, type[BaseModel]] = {
        "Principle": Principle,
        "Rule": Rule,
        "Example": Example,
    }
    assert set(schema["properties"]) == set(ConstitutionFile.model_fields)
    assert all(len(part["description"]) > 10 for part in schema["properties"].values())
    for name, model in places.items():
        properties = schema["$defs"][name]["properties"]
        assert set(properties) == set(model.model_fields)
        assert all(len(part["description"]) > 10 for part in properties.values())


@pytest.mark.parametrize(
    "data",
    [
        {**HEAD, "principles": [WISH]},
        {**HEAD, "extends": "hhh"},
        {**HEAD, "extends": ["hhh", "concise.yaml"], "remove": "brief"},
        {**HEAD, "extends": "hhh", "principles": [{"id": "no-padding", "weight": 2}]},
        {**HEAD, "extends": "concise", "principles": [{"id": "brief", "rule": None}]},
        {**HEAD, "principles": [{**WISH, "kind": "rule", "rule": {"language": "en"}}]},
    ],
)
def test_valid_files_fit_the_schema(data):
    assert valid(data)


@pytest.mark.parametrize(
    "data",
    [
        HEAD,
        {**HEAD, "principles": []},
        {"name": "n", "principles": [WISH]},
        {**HEAD, "principles": [{"id": "a"}]},
        {**HEAD, "extends": "hhh", "principles": [{"weight": 2}]},
        {**HEAD, "principles": [{**WISH, "weigth": 2}]},
        {**HEAD, "principles": [{**WISH, "weight": -1}]},
        {**HEAD, "principles": [{**WISH, "polarity": "avoyd"}]},
        {**HEAD, "principles": [{**WISH, "rule": {}}]},
        {**HEAD, "principles": [{**WISH, "rule": {"language": "eng"}}]},
        {**HEAD, "principles": [{**WISH, "id": "No Harm"}]},
        {**HEAD, "principles": [{**WISH, "examples": [{"prompt": "p", "better": "b"}]}]},
        {**HEAD, "principles": [WISH], "extend": "hhh"},
    ],
)
def test_invalid_files_do_not_fit_the_schema(data):
    assert not valid(data)
