"""Everything a command does is a function, in scripts, in notebooks, and to be awaited."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import rlaif
from tests.auditing.planted import write_gold
from tests.auditing.runs import make_run, write_prompts

JUDGE = {"name": "main", "engine": "scripted", "model": "judge-random"}
STUDENT = {"engine": "scripted", "model": "echo", "sampling": {"n": 2}}


def run_settings(folder: Path) -> dict[str, Any]:
    return {
        "name": "run",
        "prompts": {"path": str(write_prompts(folder / "prompts.jsonl", 4)), "id_column": "id"},
        "constitution": "hhh",
        "student": STUDENT,
        "judges": [JUDGE],
        "out": str(folder / "run"),
    }


# Every test here runs in an event loop, as a cell of a notebook does.


async def test_a_run_is_estimated_made_exported_and_explained(tmp_path: Path):
    settings = run_settings(tmp_path)
    expected = rlaif.estimate(settings)
    assert expected == await rlaif.aestimate(settings)
    assert {stage.purpose: stage.calls for stage in expected.stages} == {"sample": 8, "judge": 8}
    assert not (tmp_path / "run").exists()
    run = rlaif.generate(settings)
    assert run.status().rows == 4
    assert (await rlaif.agenerate(settings)).status().rows == 4
    assert rlaif.export(run, tmp_path / "pairs").records == 4
    explained = rlaif.explain_run(run.path)
    assert explained.judgments == 4
    assert asdict(explained) == asdict(rlaif.explain_run(run))


async def test_a_run_is_judged_and_read_anew(tmp_path: Path):
    run = make_run(tmp_path, prompts=4)
    first = rlaif.relabel(run.path, constitution="honest", out=tmp_path / "a")
    again = await rlaif.arelabel(run.path, constitution="honest", out=tmp_path / "a")
    assert first.rejudged.rows == again.rejudged.rows == 4
    assert (first.rejudged.asked > 0, again.rejudged.asked) == (True, 0)
    read = rlaif.reparse(run.path, out=tmp_path / "b")
    assert (read.rows, read.asked) == (4, 0)
    assert (await rlaif.areparse(run.path, out=tmp_path / "c")).remembered == read.remembered


async def test_a_judge_is_audited(tmp_path: Path):
    gold = write_gold(tmp_path / "gold.jsonl", 5)
    settings = {"judges": [JUDGE], "out": str(tmp_path / "audit")}
    found = rlaif.audit(settings, [gold])
    assert found == await rlaif.aaudit(settings, [gold]) == rlaif.audit_judge(settings, [gold])
    assert list(found.judges) == ["main"]


async def test_models_are_evaluated(tmp_path: Path):
    prompts = run_settings(tmp_path)["prompts"]
    settings = {
        "name": "evaluation",
        "prompts": prompts,
        "constitution": "concise",
        "models": [{"name": "base", "engine": "scripted", "model": "echo"}],
        "baseline": "base",
        "out": str(tmp_path / "evaluation"),
    }
    card = rlaif.evaluate(settings)
    assert card.fingerprint == (await rlaif.aevaluate(settings)).fingerprint


async def test_a_constitution_is_tested_linted_and_compared(tmp_path: Path):
    judge = {"judges": [JUDGE]}
    report = rlaif.try_constitution("hhh", judge=judge, out=tmp_path / "trial")
    assert report == await rlaif.atry_constitution("hhh", judge=judge, out=tmp_path / "trial")
    assert {one.judge for one in report.tested} >= {"main"}
    assert rlaif.try_constitution("concise").tested
    assert [one for one in rlaif.lint_constitution("hhh") if one.severity == "error"] == []
    hhh, honest = (rlaif.load_constitution(name) for name in ("hhh", "honest"))
    assert rlaif.diff_constitutions(hhh, hhh).unchanged == len(hhh.principles)
    assert rlaif.diff_constitutions(hhh, honest).unchanged < len(hhh.principles)
