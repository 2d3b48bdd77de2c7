"""`rlaif audit`, `constitution test | explain | import-votes`, `relabel`, `reparse`: as typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlaif.cli.main import app
from rlaif.errors import GateRefused, InputError, RlaifError
from tests.auditing.planted import write_gold
from tests.auditing.runs import make_run, reworded, write_constitution


def rlaif(*words: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit | RlaifError):
        raise result.exception
    return result


@pytest.fixture
def judges(tmp_path: Path) -> Path:
    found = [
        {"name": name, "engine": "scripted", "model": name} for name in ("judge-longer", "echo")
    ]
    path = tmp_path / "judge.yaml"
    path.write_text(json.dumps({"judges": found, "out": "audit"}), encoding="utf-8")
    return path


def test_audit_prints_an_estimate_then_a_table(tmp_path: Path, judges: Path) -> None:
    gold = write_gold(tmp_path / "planted.jsonl", 30)
    result = rlaif("audit", judges, "--gold", gold, "--limit", "12")
    assert result.exit_code == 0
    assert "judge-longer: 12 pairs, about 24 calls" in result.stderr
    assert "minutes" in result.stderr
    assert "(pick the longer)" in result.stdout
    assert "echo on planted: not distinguishable from chance" in result.stderr
    assert (tmp_path / "audit" / "table.md").is_file()


def test_audit_json_is_one_object_per_line(tmp_path: Path, judges: Path) -> None:
    gold = write_gold(tmp_path / "planted.jsonl", 10)
    result = rlaif("audit", judges, "--gold", gold, "--out", tmp_path / "other", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert {event["event"] for event in events} == {"estimate", "progress", "done"}
    written = json.loads((tmp_path / "other" / "audit.json").read_text(encoding="utf-8"))
    assert {key: value for key, value in events[-1].items() if key != "event"} == written


def test_constitution_test_exits_with_the_gate_code(judges: Path) -> None:
    done = rlaif("constitution", "test", "minimal", "--judge", judges)
    assert done.exit_code == 0
    assert "cannot apply" in done.stdout
    refused = rlaif("constitution", "test", "minimal", "--judge", judges, "--min-accuracy", "1")
    assert isinstance(refused.exception, GateRefused)
    assert refused.exception.exit_code == 4


def test_explain_relabel_and_reparse_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, prompts=40)
    votes = tmp_path / "votes.json"
    explained = rlaif("constitution", "explain", run.path, "--annotated-pairs", votes)
    assert "40 judgments" in explained.stdout
    assert "never mattered" in explained.stdout or "flips without it" in explained.stdout
    data = json.loads(rlaif("constitution", "explain", run.path, "--json").stdout)
    assert sum(one["decided"] for one in data["principles"].values()) == 40
    assert data["contradictions"] == []  # one principle a comparison: nobody to contradict

    shown = next(name for name, one in data["principles"].items() if one["asked"])
    new = write_constitution(tmp_path / "new.yaml", reworded("hhh", shown))
    relabelled = rlaif("relabel", run.path, "--constitution", new, "--out", tmp_path / "new")
    assert relabelled.exit_code == 0
    assert f"asked {2 * data['principles'][shown]['asked']} replies" in relabelled.stdout
    assert "principles unchanged: 28 of 29" in relabelled.stdout

    reparsed = rlaif("reparse", run.path, "--out", tmp_path / "again", "--json")
    assert json.loads(reparsed.stdout) == {
        "rows": 40,
        "failed": 0,
        "remembered": 80,
        "abstained_before": 0,
        "abstained": 0,
    }

    gold, learned = tmp_path / "gold.jsonl", tmp_path / "learned.yaml"
    words = ("--gold", gold, "--constitution", learned)
    imported = rlaif("constitution", "import-votes", votes, *words)
    assert imported.exit_code == 0
    assert len(gold.read_text(encoding="utf-8").splitlines()) == 40
    assert rlaif("constitution", "show", learned).exit_code == 0

    # what people edit by hand is not overwritten
    gold.unlink()
    learned.write_text("mine", encoding="utf-8")
    again = rlaif("constitution", "import-votes", votes, *words)
    assert isinstance(again.exception, InputError)
    assert "learned.yaml: exists already" in str(again.exception)
    assert (learned.read_text(encoding="utf-8"), gold.exists()) == ("mine", False)
