"""`rlaif evaluate` on scripted models: what is on stdout, what on stderr, what on disk."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rlaif.cli.evaluate import evaluate
from rlaif.errors import ConfigError

YAML = """
name: first
prompts: {path: prompts.jsonl, id_column: id, tags_column: tags}
constitution: concise
models:
  - {name: base, engine: scripted, model: echo}
  - {name: policy, engine: scripted, model: judge-random}
baseline: base
out: out
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    prompts = [
        {"id": f"p{i}", "prompt": f"Why {i}?", "tags": ["even", "odd"][i % 2]} for i in range(6)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)), encoding="utf-8")
    (tmp_path / "eval.yaml").write_text(YAML, encoding="utf-8")
    return tmp_path / "eval.yaml"


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(evaluate)
    return app


def test_the_table_goes_to_stdout_and_the_way_on_to_stderr(app: typer.Typer, file: Path) -> None:
    result = CliRunner().invoke(app, [str(file)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "rules ↑" in result.stdout
    assert "change of policy" in result.stdout
    assert "report.md" in result.stderr
    assert (file.parent / "out" / "report.md").is_file()


def test_json_is_one_object_a_line_and_ends_with_the_scorecard(
    app: typer.Typer, file: Path
) -> None:
    result = CliRunner().invoke(app, [str(file), "--json", "--set", "prompts.limit=3"])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[-1]["event"] == "done"
    assert lines[-1]["slices"]["all"] == 3
    assert {line["event"] for line in lines[:-1]} == {"progress"}
    assert {"stage": "sample policy", "done": 3, "total": 3, "event": "progress"} in lines


def test_another_evaluation_in_out_needs_again(app: typer.Typer, file: Path) -> None:
    run = CliRunner()
    assert run.invoke(app, [str(file)]).exit_code == 0
    other = [str(file), "--set", "seed=3"]
    assert "holds another evaluation" in str(run.invoke(app, other).exception)
    assert run.invoke(app, [*other, "--again"]).exit_code == 0


def test_a_wrong_key_is_named_with_its_place(app: typer.Typer, file: Path) -> None:
    file.write_text(YAML.replace("baseline:", "base_line:"), encoding="utf-8")
    problem = CliRunner().invoke(app, [str(file)]).exception
    assert isinstance(problem, ConfigError)
    assert "eval.yaml:8:1: unknown key 'base_line'; did you mean 'baseline'?" in str(problem)
