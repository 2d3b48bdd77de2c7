"""`rlaif check`: every kind of file is tried at its servers, and nothing is written."""

import json
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.errors import ConfigError, EngineUnavailable, KeyRefused
from tests.e2e.project import write_project
from tests.e2e.test_nothing_achieved import command
from tests.engines.faults import FaultServer, serving


def api(server: FaultServer, **more: Any) -> dict[str, Any]:
    return {"engine": "openai", "model": "test-model", "base_url": server.base_url, **more}


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_run_file_is_checked_and_estimated(tmp_path: Path):
    async with serving("plain") as server:
        server.latency = lambda: 0.05
        student = {**api(server, options={"price": {"input_per_million": 1.0,
                                                    "output_per_million": 2.0}}),
                   "sampling": {"n": 4, "max_tokens": 50}}  # fmt: skip
        judges = [{"name": "main", **api(server)}]
        config = write_project(tmp_path, prompts=40, student=student, judges=judges)
        before = written(tmp_path)
        done = await rlaif.acheck(config)
        assert written(tmp_path) == before
    assert done.ok
    assert done.kind == "run"
    student_role, judge_role = done.roles
    assert student_role.roles == ("student",)
    assert student_role.priced
    assert [call.kind for call in student_role.calls] == ["4 samples"]
    assert judge_role.label_mass == pytest.approx(0.95)
    assert judge_role.readable
    assert judge_role.takes["labels"] == "among 20 candidates"
    assert not judge_role.priced
    calls = {stage.purpose: stage.calls for stage in done.estimates["run"].stages}
    assert calls["sample"] == 160
    # Every tiny call took about 0.05 s; judges' replies are one token long, 5 were counted.
    assert done.minutes is not None
    assert done.minutes >= calls["judge"] * 0.05 / 20 / 60
    json.dumps(done.to_json())


async def test_the_command_prints_roles_and_ends_as_the_run_would(tmp_path: Path):
    async with serving("plain") as server:
        judges = [{"name": "main", **api(server)}]
        config = write_project(tmp_path, prompts=5, judges=judges)
        fine = await command("check", config, cwd=tmp_path)
        assert fine.returncode == 0, fine.stderr
        assert "judge:main" in fine.stdout
        assert "labels have 95.0%" in fine.stdout
        assert "at most about" not in fine.stdout  # the scripted student is not timed
        server.models = ["test-modal"]
        missing = await command("check", config, "--json", cwd=tmp_path)
        assert missing.returncode == 2
        said = json.loads(missing.stdout)
        assert said["ok"] is False
        judge = next(role for role in said["roles"] if role["roles"] == ["judge:main"])
        assert judge["model_known"] is False
        assert judge["problem"]["code"] == 2
        assert "did you mean 'test-modal'?" in missing.stderr
        doctor = await command("doctor", config, cwd=tmp_path)
        assert doctor.returncode == 2
        assert "does not serve model" in doctor.stderr
        assert "[openai]" in doctor.stdout


async def test_audits_evaluations_rewards_and_loops_are_checked(tmp_path: Path):
    async with serving("plain") as server:
        judges = [{"name": "main", **api(server)}]
        run = write_project(tmp_path, prompts=5, judges=judges)
        audited = await rlaif.acheck({"judges": judges, "out": "audit"})
        assert (audited.kind, audited.ok, audited.estimates) == ("audit", True, {})
        evaluation = {
            "name": "e", "prompts": {"path": str(tmp_path / "prompts.jsonl")},
            "constitution": "hhh", "models": [{"name": "a", **api(server)},
                                              {"name": "b", "engine": "scripted",
                                               "model": "echo"}],
            "baseline": "a", "judges": judges, "out": "card",
        }  # fmt: skip
        evaluated = await rlaif.acheck(evaluation)
        assert evaluated.kind == "evaluation"
        calls = {
            (stage.purpose, stage.engine): stage.calls
            for stage in evaluated.estimates["evaluation"].stages
        }
        assert calls[("evaluate", "b")] == 10
        server.fake.next_tokens = {str(number): 0.1 for number in range(1, 11)}
        judged = {"judges": [{**judges[0], "method": "pointwise"}], "constitution": "hhh",
                  "out": "ledger"}  # fmt: skip
        training = {"model": "m", "out": "o", "prompts": {"path": "p.jsonl"},
                    "reward": {"judged": judged}}  # fmt: skip
        for kind, file in (
            ("training", training),
            ("reward server", {"reward": {"judged": judged}}),
        ):
            server.models = ["test-model"]
            scored = await rlaif.acheck(file)
            assert (scored.kind, scored.ok) == (kind, True)
            assert scored.roles[0].readable
            server.models = ["other"]
            assert not (await rlaif.acheck(file)).ok
        assert (await rlaif.acheck({"data": "pairs", "model": "m", "out": "o"})).roles == ()
        assert not (tmp_path / "run").exists()
        assert run.exists()


async def test_what_cannot_be_used_is_a_problem_of_its_role(tmp_path: Path, dead_port: int):
    dead = {"engine": "openai", "model": "m", "base_url": f"http://127.0.0.1:{dead_port}/v1",
            "options": {"max_outage_s": 0.1}}  # fmt: skip
    config = write_project(tmp_path, prompts=5, judges=[{"name": "main", **dead}])
    done = await rlaif.acheck(config)
    (broken,) = [one for one in done.roles if not one.ok]
    assert broken.reachable is False
    assert broken.key_accepted is None
    with pytest.raises(EngineUnavailable, match="judge:main"):
        done.raise_problems()


async def test_batches_are_asked_for_their_models_alone(tmp_path: Path):
    async with serving("plain") as server:
        judges = [{"name": "main", **api(server, options={"transport": "batch"})}]
        config = write_project(tmp_path, prompts=5, judges=judges)
        done = await rlaif.acheck(config)
        assert done.ok
        assert server.chats() == []
        assert any("batches" in words for one in done.roles for words in one.warnings)
        # Deployments and models of one's own are in no list.
        server.models = ["test-modal"]
        done = await rlaif.acheck(config)
        assert done.ok
        assert any("did you mean 'test-modal'" in words for words in done.roles[-1].warnings)
        # A key may be good for everything but the list.
        server.instead_of_models = (401, b'{"error": {"message": "Missing scopes: model.read"}}')
        assert (await rlaif.acheck(config)).ok
        server.instead_of_models = (401, b'{"error": {"message": "Incorrect API key"}}')
        with pytest.raises(KeyRefused, match="Incorrect API key"):
            (await rlaif.acheck(config)).raise_problems()


async def test_a_file_of_no_kind_is_refused():
    with pytest.raises(ConfigError, match="not a file of any kind"):
        await rlaif.acheck({"nonsense": 1})
