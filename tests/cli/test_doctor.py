"""`rlaif doctor` speaks about every extra that there is."""

import tomllib
from pathlib import Path

import orjson
from typer.testing import CliRunner

from rlaif.cli.main import app

ROOT = Path(__file__).parents[2]


def test_every_extra_but_that_of_developers_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = CliRunner().invoke(app, ["doctor", "--json"])
    missing = orjson.loads(found.stdout)["missing"]
    assert set(missing) == set(project["optional-dependencies"]) - {"dev"}
