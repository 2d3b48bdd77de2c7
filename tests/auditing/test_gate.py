"""A judge labels only after it has shown that it can; or because an override names it."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.auditing import audit_judge
from rlaif.config import RunConfig, load_config
from rlaif.errors import ConfigError, GateRefused
from rlaif.judging.gate import check_gate
from rlaif.pipeline import export
from tests.auditing.planted import write_gold
from tests.auditing.runs import make_run

JUDGE = {"name": "main", "engine": "scripted", "model": "judge-random"}


def write_audit(path: Path, value: float | None, low: float, high: float) -> Path:
    figure = None if value is None else {"value": value, "low": low, "high": high, "n": 60}
    sets = {"llmbar": {"accuracy": {"figure": figure}}}
    data = {
        "format": 1,
        "gold": {"llmbar": {}},
        "judges": {"audited": {"fingerprint": "f", "sets": sets}},
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def check(path: Path, **more: Any) -> tuple[str, ...]:
    wanted: dict[str, Any] = {"min_accuracy": {"llmbar": 0.6}, "judges": {"main": "f"}, **more}
    return check_gate(audit=path, **wanted)


def test_the_lower_end_must_reach_the_minimum_unless_the_gate_takes_the_estimate(
    tmp_path: Path,
) -> None:
    good = write_audit(tmp_path / "good.json", 0.7, 0.61, 0.8)
    wide = write_audit(tmp_path / "wide.json", 0.7, 0.55, 0.8)
    assert check(good) == ()
    with pytest.raises(GateRefused, match=r"0\.700 \(95 % interval 0\.550 to 0\.800, 60 pairs\)"):
        check(wide)
    assert check(wide, by="estimate") == ()
    with pytest.raises(GateRefused, match=r"its estimate must reach 0\.8"):
        check(wide, by="estimate", min_accuracy={"llmbar": 0.8})


def test_a_judge_that_was_audited_otherwise_was_not_audited(tmp_path: Path) -> None:
    good = write_audit(tmp_path / "good.json", 0.7, 0.61, 0.8)
    with pytest.raises(GateRefused, match="was not audited as it is configured here"):
        check(good, judges={"main": "another"})


def test_a_judge_that_answered_nothing_does_not_pass(tmp_path: Path) -> None:
    mute = write_audit(tmp_path / "mute.json", None, 0, 0)
    with pytest.raises(GateRefused, match="no accuracy could be measured"):
        check(mute)


def test_an_override_lets_a_judge_pass_and_says_so(tmp_path: Path) -> None:
    bad = write_audit(tmp_path / "bad.json", 0.5, 0.4, 0.6)
    (notice,) = check(bad, override=["main"])
    assert "'main' labels although the gate refuses it" in notice
    assert "0.500" in notice
    with pytest.raises(ConfigError, match="did you mean 'main'"):
        check(bad, override=["mian"])


def test_a_gate_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        check(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match="not an audit"):
        check(tmp_path / "list.json")
    good = write_audit(tmp_path / "good.json", 0.7, 0.61, 0.8)
    with pytest.raises(ConfigError, match="did you mean 'llmbar'"):
        check(good, min_accuracy={"lmbar": 0.5})


def test_a_run_behind_a_gate_starts_nothing_unless_overridden(tmp_path: Path) -> None:
    gold = write_gold(tmp_path / "planted.jsonl", 40)
    audit_judge({"judges": [JUDGE], "out": str(tmp_path / "audit")}, [gold])
    gate: dict[str, Any] = {
        "audit": str(tmp_path / "audit" / "audit.json"),
        "min_accuracy": {"planted": 0.6},
    }
    with pytest.raises(GateRefused) as refused:
        make_run(tmp_path, gate=gate)
    assert refused.value.exit_code == 4
    assert not (tmp_path / "run").exists()
    run = make_run(tmp_path, gate={**gate, "override": ["main"]})
    assert any("labels although the gate refuses" in one for one in run.manifest.notices)
    export(run.path, tmp_path / "data")
    card = (tmp_path / "data" / "README.md").read_text(encoding="utf-8")
    assert "labels although the gate refuses" in card
    passed = make_run(tmp_path, name="low", gate={**gate, "min_accuracy": {"planted": 0.1}})
    assert not any("gate" in one for one in passed.manifest.notices)


def test_a_gate_without_a_judge_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="judges is empty"):
        load_config(
            RunConfig,
            {
                "name": "x",
                "prompts": {"path": "p.jsonl"},
                "constitution": "concise",
                "student": {"engine": "scripted", "model": "echo"},
                "gate": {"audit": "a.json", "min_accuracy": {"llmbar": 0.6}},
                "out": "out",
            },
        )


def test_a_calibration_of_an_audit_is_applied_by_a_run(tmp_path: Path) -> None:
    gold = write_gold(tmp_path / "planted.jsonl", 200)
    lines = [json.loads(line) for line in gold.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines):  # the longer one is better in three of four
        longer = "a" if len(line["response_a"]) > len(line["response_b"]) else "b"
        line["label"] = longer if number % 4 else {"a": "b", "b": "a"}[longer]
    gold.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    judge = {"name": "main", "engine": "scripted", "model": "judge-longer"}
    audit_judge({"judges": [judge], "seed": 1, "out": str(tmp_path / "audit")}, [gold])
    path = tmp_path / "audit" / "calibration-main.json"
    run = make_run(tmp_path, judges=[{**judge, "calibration": str(path)}])
    plain = make_run(tmp_path, name="plain", judges=[judge])
    t = json.loads(path.read_text(encoding="utf-8"))["t"]
    for view in run.judgments():
        assert f"main: temperature({t:g})" in view.judgment.transforms
    assert any("calibration of the judge 'main'" in one for one in run.manifest.notices)
    before = {v.judgment.first_id: v.judgment for v in plain.judgments()}
    assert all(
        v.judgment.raw_preference == before[v.judgment.first_id].raw_preference
        for v in run.judgments()
    )


def test_a_calibration_of_the_panel_is_applied_to_the_pool_of_all_judges(tmp_path: Path) -> None:
    gold = write_gold(tmp_path / "planted.jsonl", 300)
    lines = [json.loads(line) for line in gold.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines):  # the longer one is better in three of four
        longer = "a" if len(line["response_a"]) > len(line["response_b"]) else "b"
        line["label"] = longer if number % 4 else {"a": "b", "b": "a"}[longer]
    gold.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    judge = {"engine": "scripted", "model": "judge-longer"}
    judges: list[dict[str, Any]] = [
        {"name": "one", **judge},
        {"name": "two", **judge, "options": {"position_bias": 0.5}},
    ]
    audit_judge({"judges": judges, "out": str(tmp_path / "audit")}, [gold])
    path = tmp_path / "audit" / "calibration-panel.json"
    t = json.loads(path.read_text(encoding="utf-8"))["t"]
    run = make_run(tmp_path, judges=judges, judging={"calibration": str(path)})
    for view in run.judgments():
        assert view.judgment.transforms == (f"panel: temperature({t:g})",)
    heavier = [{**judges[0], "weight": 2.0}, judges[1]]
    with pytest.raises(ConfigError, match="fitted to another judge"):
        make_run(tmp_path, name="q", judges=heavier, judging={"calibration": str(path)})
    more = {"calibration": str(path), "principles": {"choose": "all"}}
    with pytest.raises(ConfigError, match=r"labels of 1 principle"):
        make_run(tmp_path, name="q", judges=judges, judging=more)
