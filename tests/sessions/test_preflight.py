"""Before a run: what is asked of servers, what stops a command, and what only warns."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.errors import (
    EngineMissing,
    EngineUnavailable,
    KeyRefused,
    ModelUnknown,
    NothingSucceeded,
    RlaifError,
)
from rlaif.runs import open_run
from rlaif.sessions import probe
from tests.auditing.planted import write_gold
from tests.engines.faults import FaultServer, error, payload, serving, slow, too_many


def write_prompts(folder: Path, count: int = 4) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(count)))
    return path


def api(server: FaultServer, **more: Any) -> dict[str, Any]:
    return {"engine": "openai", "model": "test-model", "base_url": server.base_url, **more}


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "run",
        "prompts": {"path": str(write_prompts(folder))},
        "constitution": "hhh",
        "student": {"engine": "scripted", "model": "echo", "sampling": {"n": 3}},
        "judges": [{"name": "main", "engine": "scripted", "model": "judge-random"}],
        "out": str(folder / "run"),
        **changes,
    }


def judged_by(server: FaultServer, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "main", **api(server), **more}]


def tiny(server: FaultServer) -> list[dict[str, Any]]:
    """Calls about the question of the preflight."""
    return [seen.body for seen in server.chats() if "capital of France" in str(seen.body)]


def spent(run: Path) -> dict[str, int]:
    with open_run(run).ledger() as ledger:
        return {total.purpose: total.calls for total in ledger.totals()}


async def refused(config: dict[str, Any]) -> RlaifError:
    """The error with which a run ends before anything is written."""
    with pytest.raises(RlaifError) as stopped:
        await rlaif.agenerate(config)
    assert not Path(config["out"]).exists()
    return stopped.value


async def test_a_dead_judge_is_found_before_anything_is_sampled(tmp_path: Path, dead_port: int):
    async with serving("openai") as server:
        dead = {"engine": "openai", "model": "m", "base_url": f"http://127.0.0.1:{dead_port}/v1"}
        config = settings(
            tmp_path,
            student={**api(server), "sampling": {"n": 2}},
            judges=[{"name": "main", **dead}],
        )
        started = time.monotonic()
        problem = await refused(config)
        assert time.monotonic() - started < 15
        assert isinstance(problem, EngineUnavailable)
        assert "judge:main: no response from" in problem.message
        assert "base_url" in problem.hint
        assert "max_outage_s" in problem.hint
        assert "preflight: false" in problem.hint
        assert len(server.chats()) == len(tiny(server)) == 1


async def test_a_name_without_an_address_is_found(tmp_path: Path):
    judge = {"name": "main", "engine": "openai", "model": "m", "base_url": "http://no.invalid/v1"}
    problem = await refused(settings(tmp_path, judges=[judge]))
    assert isinstance(problem, EngineUnavailable)


async def test_a_wrong_key_is_found(tmp_path: Path):
    async with serving("openai") as server:
        server.key = "right"
        problem = await refused(settings(tmp_path, judges=judged_by(server)))
        assert isinstance(problem, EngineMissing)
        assert problem.exit_code == 2
        assert "does not accept the key" in problem.message
        assert "api_key_env" in problem.hint


async def test_a_wrong_model_behind_a_proxy_is_found_with_the_nearest_name(tmp_path: Path):
    async with serving("plain") as server:
        server.models = ["team/Test-Model", "other"]
        problem = await refused(settings(tmp_path, judges=judged_by(server)))
        assert isinstance(problem, EngineMissing)
        assert "did you mean 'team/Test-Model'?" in problem.hint
        # A proxy that has words of its own for it.
        server.fault_of = lambda _: error(400, "no healthy deployment for test-model")
        problem = await refused(settings(tmp_path, judges=judged_by(server)))
        assert isinstance(problem, EngineMissing)
        assert problem.message.count("no healthy deployment") == 1
        assert "did you mean 'team/Test-Model'?" in problem.hint


async def test_a_judge_without_log_probabilities_names_the_option(tmp_path: Path):
    async with serving("plain") as server:
        words = "`logprobs` is not supported with this model"
        server.fault_of = lambda body: error(400, words) if body.get("logprobs") else None
        problem = await refused(settings(tmp_path, judges=judged_by(server)))
        assert isinstance(problem, EngineMissing)
        assert problem.message.count(words) == 1
        assert "words: true" in problem.hint
        server.fault_of = lambda _: None
        config = settings(tmp_path, judges=judged_by(server, pairwise={"words": True}))
        await rlaif.agenerate(config)
        assert spent(tmp_path / "run")["preflight"] == 1


def first_token(token: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    top = [{"token": name, "logprob": value} for name, value in ((token, logprob), *others)]
    content = [{"token": token, "logprob": logprob, "top_logprobs": top}]
    choice = {
        "message": {"role": "assistant", "content": token},
        "finish_reason": "length",
        "logprobs": {"content": content},
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}


async def test_a_judge_that_thinks_before_its_label_is_found(tmp_path: Path):
    async with serving("plain") as server:
        server.fault_of = lambda _: payload(first_token("<think>", -0.0001))
        problem = await refused(settings(tmp_path, judges=judged_by(server)))
        assert isinstance(problem, NothingSucceeded)
        assert problem.exit_code == 1
        assert "words: true" in f"{problem.message} {problem.hint}"


@pytest.mark.parametrize(
    "reply",
    [
        first_token("Sure", -0.0001),
        first_token("Sure", -0.0001, ("A", -11.0), ("B", -12.0)),
    ],
)
async def test_a_judge_that_reads_only_the_easy_comparison_badly_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reply: dict[str, Any]
):
    async with serving("plain") as server:
        server.fault_of = lambda body: payload(reply) if "capital of France" in str(body) else None
        run = await rlaif.agenerate(settings(tmp_path, judges=judged_by(server)))
        assert run.status().rows == 4
    assert "gives no clear verdict on an easy comparison" in caplog.text
    assert "words: true" in caplog.text


async def test_what_a_students_server_does_not_take_is_learned_once(tmp_path: Path):
    async with serving("plain") as server:
        server.refuses_n = True
        student = {**api(server), "sampling": {"n": 3}}
        await rlaif.agenerate(settings(tmp_path, student=student))
        with_n = [seen for seen in server.chats() if seen.body.get("n", 1) > 1]
        assert len(with_n) == 1
        assert len(tiny(server)) == 1 + 3
        assert spent(tmp_path / "run") == {"preflight": 3, "sample": 12, "judge": 24}


async def test_a_slow_server_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(probe, "LIMIT_S", 0.2)
    async with serving("plain", slow(5.0)) as server:
        run = await rlaif.agenerate(settings(tmp_path, judges=judged_by(server)))
        assert run.status().rows == 4
    assert "judge:main: no reply within 0.2 s" in caplog.text


async def test_a_server_that_throttles_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(probe, "LIMIT_S", 0.2)
    async with serving("plain", *[too_many("0.3")] * 2) as server:
        run = await rlaif.agenerate(settings(tmp_path, judges=judged_by(server)))
        assert run.status().rows == 4
    assert "throttles" in caplog.text


async def test_one_bad_answer_is_tried_again(tmp_path: Path):
    async with serving("plain", error(500), too_many("0.05")) as server:
        await rlaif.agenerate(settings(tmp_path, judges=judged_by(server)))
        assert len(tiny(server)) == 3


async def test_switched_off_nothing_is_asked_before(tmp_path: Path):
    async with serving("plain") as server:
        config = settings(tmp_path, judges=judged_by(server), preflight=False)
        run = await rlaif.agenerate(config)
        assert tiny(server) == []
        asked = await rlaif.agenerate({**config, "out": str(tmp_path / "on"), "preflight": True})
        assert len(tiny(server)) == 1
        assert run.manifest.fingerprint == asked.manifest.fingerprint


async def test_a_finished_run_asks_nothing_and_a_resumed_one_asks_first(tmp_path: Path):
    async with serving("plain") as server:
        config = settings(tmp_path, judges=judged_by(server))
        await rlaif.agenerate(config)
        rows = {row.id for row in open_run(tmp_path / "run").rows()}
        server.seen.clear()
        await rlaif.agenerate(config)
        assert server.seen == []
        reused = {**config, "out": str(tmp_path / "again"), "reuse": [config["out"]]}
        await rlaif.agenerate(reused)
        assert server.seen == []
        write_prompts(tmp_path, 6)
        await rlaif.agenerate(config)
        assert len(tiny(server)) == 1
        first = min(seen.at for seen in server.chats())
        assert "capital of France" in str(
            next(seen.body for seen in server.chats() if seen.at == first)
        )
        assert rows < {row.id for row in open_run(tmp_path / "run").rows()}
        server.key = "another"
        write_prompts(tmp_path, 8)
        with pytest.raises(KeyRefused):
            await rlaif.agenerate(config)


async def test_scripted_engines_are_not_asked(tmp_path: Path):
    await rlaif.agenerate(settings(tmp_path))
    assert "preflight" not in spent(tmp_path / "run")


async def test_two_roles_at_one_server_ask_once_per_kind(tmp_path: Path):
    async with serving("plain") as server:
        student = {**api(server), "sampling": {"n": 2}}
        judges = [{"name": name, **api(server)} for name in ("one", "two")]
        judges.append({"name": "read", **api(server), "pairwise": {"words": True}})
        judges.append({"name": "self", "model": "same-as-student"})
        await rlaif.agenerate(settings(tmp_path, student=student, judges=judges))
        kinds = Counter(
            "label" if body.get("logprobs") else "words" if "response_format" in body else "sample"
            for body in tiny(server)
        )
        assert kinds == {"label": 1, "words": 1, "sample": 1}
        assert server.counts["/v1/models"] == 1


async def test_every_role_is_named_with_what_is_wrong_with_it(tmp_path: Path, dead_port: int):
    async with serving("plain") as server:
        server.key = "right"
        dead = {"engine": "openai", "model": "m", "base_url": f"http://127.0.0.1:{dead_port}/v1"}
        judges = [{"name": "main", **dead}]
        problem = await refused(settings(tmp_path, student=api(server), judges=judges))
        assert isinstance(problem, EngineMissing)
        assert "student: " in problem.message
        assert "judge:main: no response" in problem.message


async def test_tiny_calls_count_against_the_budget(tmp_path: Path):
    async with serving("plain") as server:
        config = settings(tmp_path, judges=judged_by(server), budget={"max_calls": 1000})
        await rlaif.agenerate(config)
        with open_run(tmp_path / "run").ledger() as ledger:
            by_purpose = {total.purpose: total for total in ledger.totals()}
        assert by_purpose["preflight"].calls == 1
        assert by_purpose["preflight"].prompt_tokens > 0


async def test_an_audit_an_evaluation_and_a_relabelled_run_are_tried_first(tmp_path: Path):
    async with serving("plain") as server:
        run = await rlaif.agenerate(settings(tmp_path, judges=judged_by(server)))
        server.seen.clear()
        server.models = ["other"]
        with pytest.raises(ModelUnknown):
            await rlaif.arelabel(run.path, constitution="honest", out=tmp_path / "relabelled")
        judges = judged_by(server)
        gold = write_gold(tmp_path / "gold.jsonl", 3)
        audited = {"judges": judges, "out": str(tmp_path / "audit")}
        with pytest.raises(EngineMissing, match="does not serve"):
            await rlaif.aaudit(audited, [gold])
        with pytest.raises(EngineMissing, match="does not serve"):
            await rlaif.atry_constitution("hhh", judge=audited)
        evaluation = {
            "name": "e",
            "prompts": {"path": str(tmp_path / "prompts.jsonl")},
            "constitution": "hhh",
            "models": [{"name": "a", **api(server)}],
            "baseline": "a",
            "out": str(tmp_path / "card"),
        }
        with pytest.raises(EngineMissing, match="a: http"):
            await rlaif.aevaluate(evaluation)
        assert len(server.chats()) == 4
        assert not (tmp_path / "audit").exists()
        assert not (tmp_path / "card").exists()
