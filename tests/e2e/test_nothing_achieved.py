"""A command that achieved nothing says so and ends with 1, whatever it counted on the way."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.auditing.planted import write_gold
from tests.e2e.project import rlaif, write_project
from tests.engines.faults import FaultServer, error, serving

WORDS = "this model does not support what was asked"


def judging(body: dict[str, Any]) -> bool:
    return body.get("max_tokens") == 1


def sampling(body: dict[str, Any]) -> bool:
    return not judging(body)


def refuse(server: FaultServer, which: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Answer these calls with 400; return the engine to ask."""
    server.fault_of = lambda body: error(400, WORDS) if which(body) else None
    options = {"supports_n": True}
    return {
        "engine": "openai", "model": "test-model", "base_url": server.base_url, "options": options
    }  # fmt: skip


async def command(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(rlaif, *words, cwd=cwd)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


async def test_a_judge_that_refuses_every_call_ends_a_run_with_1(tmp_path: Path) -> None:
    async with serving("vllm") as server:
        api = refuse(server, judging)
        judges = [{"name": "main", **api}]
        config = write_project(tmp_path, prompts=5, judges=judges, give_up_after=0)
        done = await command("generate", config, cwd=tmp_path)
        again = await command("generate", config, "--json", cwd=tmp_path)
    for one in (done, again):
        assert one.returncode == 1
        assert "error: no judge gave a readable verdict; most frequent failure: " in last_line(one)
        assert WORDS in last_line(one)
        assert "rlaif export" not in one.stderr
    assert "rows        5" in done.stdout
    exported = await command("export", "run", "--out", "out", cwd=tmp_path)
    assert exported.returncode == 1
    assert "nothing to export: the run has no pairs; most frequent failure: " in exported.stderr
    assert WORDS in exported.stderr
    assert not (tmp_path / "out").exists()


async def test_a_student_that_refuses_every_call_ends_a_run_with_1(tmp_path: Path) -> None:
    async with serving("vllm") as server:
        student = refuse(server, sampling)
        config = write_project(tmp_path, prompts=5, preflight=False, student=student)
        done = await command("generate", config, cwd=tmp_path)
    assert done.returncode == 1
    assert "error: no prompt became a row; most frequent failure: 5 × http-400: " in last_line(done)
    assert WORDS in last_line(done)


def test_a_run_with_rules_alone_is_a_success_and_so_is_its_repetition(tmp_path: Path) -> None:
    config = write_project(tmp_path, prompts=5, constitution="concise", judges=[])
    for _ in range(2):
        assert rlaif("generate", config, cwd=tmp_path).returncode == 0


def test_the_next_step_named_after_a_run_without_pairs_works(tmp_path: Path) -> None:
    student = {"engine": "scripted", "model": "echo", "sampling": {"n": 1}}
    config = write_project(tmp_path, prompts=3, constitution="concise", judges=[], student=student)
    done = rlaif("generate", config, cwd=tmp_path)
    assert "--what responses" in last_line(done)
    words = last_line(done).removeprefix("next: rlaif ").split()
    assert rlaif(*words, cwd=tmp_path).returncode == 0


def test_a_judge_without_two_responses_to_compare_ends_a_run_with_1(tmp_path: Path) -> None:
    student = {"engine": "scripted", "model": "echo", "sampling": {"n": 1}}
    done = rlaif("generate", write_project(tmp_path, prompts=3, student=student), cwd=tmp_path)
    assert done.returncode == 1
    assert "no judge was asked: no prompt has two responses" in last_line(done)


def test_a_part_of_the_input_without_a_prompt_is_a_success(tmp_path: Path) -> None:
    config = write_project(tmp_path, prompts=1)
    parts = [
        rlaif(
            "generate", config, "--set", f"prompts.partition={part}/4",
            "--set", f"out=run{part}", cwd=tmp_path,
        )
        for part in (1, 2, 3, 4)
    ]  # fmt: skip
    assert [one.returncode for one in parts] == [0, 0, 0, 0], parts


def test_an_empty_export_leaves_an_earlier_one_alone(tmp_path: Path) -> None:
    config = write_project(tmp_path, prompts=3)
    assert rlaif("generate", config, cwd=tmp_path).returncode == 0
    assert rlaif("export", "run", "--out", "out", cwd=tmp_path).returncode == 0
    before = (tmp_path / "out" / "README.md").read_bytes()
    words = ("export", "run", "--out", "out", "--force")
    done = rlaif(*words, "--min-margin", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert "below the margin" in done.stderr
    assert (tmp_path / "out" / "README.md").read_bytes() == before


async def test_an_audit_and_an_evaluation_without_a_readable_verdict_end_with_1(
    tmp_path: Path,
) -> None:
    write_gold(tmp_path / "gold.jsonl", 4)
    async with serving("vllm") as server:
        api = refuse(server, judging)
        models = [{"name": "echo", "engine": "scripted", "model": "echo"}, {"name": "b", **api}]
        judges = [{"name": "main", **api}]
        (tmp_path / "judge.yaml").write_text(json.dumps({"judges": judges, "out": "audit"}))
        words = ("audit", "judge.yaml", "--gold", "gold.jsonl", "--no-preflight")
        audited = await command(*words, cwd=tmp_path)
        write_project(tmp_path, prompts=3)
        evaluation = {
            "name": "e", "prompts": {"path": "prompts.jsonl"}, "constitution": "hhh",
            "models": models, "baseline": "echo", "judges": judges, "out": "card",
        }  # fmt: skip
        (tmp_path / "eval.yaml").write_text(json.dumps(evaluation))
        evaluate = ("evaluate", "eval.yaml", "--no-preflight")
        evaluated = await command(*evaluate, cwd=tmp_path)
        again = await command(*evaluate, "--json", cwd=tmp_path)
    for one in (audited, evaluated, again):
        assert one.returncode == 1, one.stderr
        assert "no judge gave a readable verdict; most frequent failure: " in one.stderr
        assert "this model does not support" in one.stderr


async def test_an_evaluation_whose_models_all_refuse_ends_with_1(tmp_path: Path) -> None:
    write_project(tmp_path, prompts=3)
    async with serving("vllm") as server:
        api = refuse(server, lambda _: True)
        evaluation = {
            "name": "e", "prompts": {"path": "prompts.jsonl"}, "constitution": "concise",
            "models": [{"name": "a", **api}, {"name": "b", **api}], "baseline": "a", "out": "card",
        }  # fmt: skip
        (tmp_path / "eval.yaml").write_text(json.dumps(evaluation))
        done = await command("evaluate", "eval.yaml", "--no-preflight", cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing was measured; most frequent failure: " in last_line(done)
