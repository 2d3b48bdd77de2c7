"""When every first call of a kind fails the same way, a command stops within a few calls."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.runs import open_run
from tests.auditing.planted import write_gold
from tests.e2e.project import write_project
from tests.e2e.test_nothing_achieved import (
    WORDS,
    command,
    judging,
    last_line,
    refuse as refuse_all,
    sampling,
)
from tests.e2e.test_retry_failed import every
from tests.engines.faults import FaultServer, error, payload, serving

AT_MOST = 25


def refuse(server: FaultServer, which: Any) -> dict[str, Any]:
    """Answer these calls with 400; the engine sends one request a call."""
    return {**refuse_all(server, which), "options": {"supports_n": False}}


def asked(server: FaultServer, which: Any) -> int:
    return sum(which(seen.body) for seen in server.chats())


@pytest.mark.parametrize("concurrency", [8, 64])
async def test_a_judge_that_refuses_stops_a_run_within_25_calls_with_1(
    tmp_path: Path, concurrency: int
) -> None:
    async with serving("openai") as server:
        api = refuse(server, judging)
        judges = [{"name": "main", **api}]
        config = write_project(
            tmp_path, prompts=150, preflight=False, judges=judges, concurrency=concurrency
        )
        done = await command("generate", config, cwd=tmp_path)
        assert asked(server, judging) <= AT_MOST
        assert done.returncode == 1, done.stderr
        assert done.stderr.count(WORDS) == 1
        assert "the first 20 judge calls to judge:main all failed" in done.stderr
        server.fault_of = lambda _: None
        again = await command("generate", config, cwd=tmp_path)
    assert again.returncode == 0, again.stderr


async def test_a_student_that_refuses_stops_a_run_within_25_calls(tmp_path: Path) -> None:
    async with serving("openai") as server:
        config = write_project(
            tmp_path, prompts=150, preflight=False, student=refuse(server, sampling)
        )
        done = await command("generate", config, cwd=tmp_path)
        assert len(server.chats()) <= AT_MOST
    assert done.returncode == 1
    assert "the first 20 sample calls to student all failed" in done.stderr


async def test_a_server_that_echoes_the_request_in_its_refusal_stops_a_run_too(
    tmp_path: Path,
) -> None:
    async with serving("openai") as server:
        student = refuse(server, sampling)
        server.fault_of = lambda body: error(422, f"bad seed in {body['messages']}")
        config = write_project(tmp_path, prompts=100, preflight=False, student=student)
        done = await command("generate", config, cwd=tmp_path)
        assert len(server.chats()) <= AT_MOST
    assert done.returncode == 1
    assert "bad seed in" in done.stderr


async def test_what_is_left_of_a_run_may_fail_all_the_same_without_stopping_it(
    tmp_path: Path,
) -> None:
    async with serving("openai") as server:
        student = refuse(server, sampling)
        server.fault_of = lambda body: error(400, WORDS) if every(3)(body) else None
        config = write_project(tmp_path, prompts=120, preflight=False, student=student)
        first = await command("generate", config, cwd=tmp_path)
        assert first.returncode == 0, first.stderr
        failed = open_run(tmp_path / "run").status().failed
        assert failed > 20
        again = await command("generate", config, "--retry-failed", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    status = open_run(tmp_path / "run").status()
    assert (status.state, status.failed) == ("finished", failed)


async def test_a_limit_of_the_file_counts_and_0_carries_on(tmp_path: Path) -> None:
    async with serving("openai") as server:
        student = refuse(server, sampling)
        config = write_project(tmp_path, prompts=40, preflight=False, student=student)
        words = ("generate", config, "--set")
        few = await command(*words, "give_up_after=5", cwd=tmp_path)
        assert "the first 5 sample calls" in few.stderr
        assert len(server.chats()) <= 6
        server.seen.clear()
        all_ = await command(*words, "give_up_after=0", cwd=tmp_path)
        assert len(server.chats()) > AT_MOST
    assert (few.returncode, all_.returncode) == (1, 1)
    assert "no prompt became a row" in last_line(all_)


async def test_a_judge_whose_replies_cannot_be_read_stops_a_run_within_25_calls(
    tmp_path: Path,
) -> None:
    babble = {
        "choices": [
            {"message": {"role": "assistant", "content": "Hm, hard to say."},
             "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5},
    }  # fmt: skip
    async with serving("openai") as server:
        api = refuse(server, judging)
        server.fault_of = lambda _: payload(babble)
        judges = [
            {"name": "main", **api, "options": {"structured": "none"}, "pairwise": {"words": True}}
        ]
        config = write_project(
            tmp_path, prompts=150, preflight=False, judges=judges, concurrency=64
        )
        done = await command("generate", config, cwd=tmp_path)
        assert len(server.chats()) <= AT_MOST
    assert done.returncode == 1, done.stderr
    assert "the first 20 verdicts of the judge 'main' all failed: unreadable" in done.stderr


async def test_audits_evaluations_and_tests_of_a_constitution_stop_within_25_calls(
    tmp_path: Path,
) -> None:
    write_gold(tmp_path / "gold.jsonl", 60)
    write_project(tmp_path, prompts=60)
    async with serving("openai") as server:
        api = refuse(server, lambda _: True)
        judges = [{"name": "main", **api}]
        (tmp_path / "judge.yaml").write_text(json.dumps({"judges": judges, "out": "audit"}))
        evaluation = {
            "name": "e", "prompts": {"path": "prompts.jsonl"}, "constitution": "hhh",
            "models": [{"name": "echo", "engine": "scripted", "model": "echo"},
                       {"name": "b", **api}],
            "baseline": "echo", "judges": judges, "out": "card",
        }  # fmt: skip
        (tmp_path / "eval.yaml").write_text(json.dumps(evaluation))
        for words in (
            ("audit", "judge.yaml", "--gold", "gold.jsonl", "--no-preflight"),
            ("evaluate", "eval.yaml", "--no-preflight"),
            (
                "constitution",
                "test",
                "hhh",
                "--judge",
                "judge.yaml",
                "--out",
                "tested",
                "--no-preflight",
            ),
        ):
            server.seen.clear()
            done = await command(*words, cwd=tmp_path)
            assert done.returncode == 1, (words, done.stderr)
            assert "the first 20 " in done.stderr, (words, done.stderr)
            assert len(server.chats()) <= AT_MOST, words


async def test_asked_first_a_judge_that_refuses_stops_a_run_before_its_folder_is_made(
    tmp_path: Path,
) -> None:
    async with serving("openai") as server:
        judges = [{"name": "main", **refuse(server, judging)}]
        config = write_project(tmp_path, prompts=150, judges=judges)
        done = await command("generate", config, cwd=tmp_path)
        assert len(server.chats()) == 1
        assert done.returncode == 1, done.stderr
        assert done.stderr.count(WORDS) == 1
        assert "preflight: false" in done.stderr
        assert not (tmp_path / "run").exists()
        switched_off = await command("generate", config, "--no-preflight", cwd=tmp_path)
    assert "the first 20 judge calls" in switched_off.stderr
