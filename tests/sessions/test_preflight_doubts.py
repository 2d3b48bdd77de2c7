"""Before a run: in doubt it starts. What would have worked without asking first works with it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.engines.openai.rejections import is_listed
from rlaif.errors import EngineUnavailable, StoppedEarly
from rlaif.runs import open_run
from tests.engines.faults import FaultServer, error, serving
from tests.sessions.test_preflight import (
    api,
    judged_by,
    refused,
    settings,
    spent,
    tiny,
    write_prompts,
)


def listing(*names: str) -> bytes:
    return json.dumps({"data": [{"id": name} for name in names]}).encode()


@pytest.mark.parametrize(
    "answer",
    [
        (404, b"not found"),
        (405, b""),
        (401, b'{"error": {"message": "Missing scopes: model.read"}}'),
        (403, b"{}"),
        (500, b"{}"),
        (200, b"<html>hello</html>"),
        (200, b"{}"),
        (200, listing()),
        (200, listing("someone/test-model")),
        (200, listing("another", *(f"model-{n}" for n in range(3000)))),
        (307, b""),
    ],
)
async def test_whatever_models_answers_a_server_that_answers_calls_is_fine(
    tmp_path: Path, answer: tuple[int, bytes]
):
    async with serving("openai") as server:
        # The server's own name for it is the one it is called by; its list says something else.
        server.instead_of_models = answer
        options = {"labels": "top_logprobs"}
        config = settings(tmp_path, judges=judged_by(server, options=options))
        run = await rlaif.agenerate(config)
        assert run.status().rows == 4
        assert server.counts["/v1/models"] == 1


async def test_a_page_in_place_of_a_list_is_asked_for_once(tmp_path: Path):
    async with serving("plain") as server:
        server.instead_of_models = (200, b"<html>hello</html>")
        await rlaif.agenerate(settings(tmp_path, judges=judged_by(server)))
        assert server.counts["/v1/models"] == 1


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        ("gpt-x", True),
        ("models/gpt-x", True),
        ("*", True),
        ("gpt-*", True),
        ("openai/*", False),
        ("gpt-[x]", False),
        ("openai/gpt-x", False),
        ("GPT-X", False),
    ],
)
def test_a_model_is_listed_by_its_name_or_a_pattern(listed: str, known: bool):
    assert is_listed("gpt-x", ["other", listed]) is known


async def test_a_server_that_is_still_starting_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    server = FaultServer("plain")
    await server.start()
    config = settings(tmp_path, judges=judged_by(server))
    await server.stop()  # its port is free again

    async def start_late() -> None:
        await asyncio.sleep(1.0)
        await server.start()

    config["judges"][0]["options"] = {"max_outage_s": 60}
    starting = asyncio.create_task(start_late())
    try:
        run = await rlaif.agenerate(config)
    finally:
        await starting
        await server.stop()
    assert run.status().rows == 4
    assert "does not respond yet: waiting up to 60 s" in caplog.text


async def test_a_server_whose_replies_are_all_remembered_may_be_gone(
    tmp_path: Path, dead_port: int
):
    async with serving("plain") as server:
        student = {**api(server), "sampling": {"n": 2}}
        sampled = settings(tmp_path, student=student, name="one")
        await rlaif.agenerate(sampled)
    async with serving("plain") as other:
        config = {
            **sampled,
            "judges": judged_by(other),
            "out": str(tmp_path / "again"),
            "reuse": [sampled["out"]],
        }
        run = await rlaif.agenerate(config)
        assert run.status().rows == 4
        assert len(tiny(other)) == 1
    # And back: the student is asked for new prompts and is not there.
    write_prompts(tmp_path, 6)
    with pytest.raises(EngineUnavailable, match="student: no response"):
        await rlaif.agenerate(config)


async def test_fields_that_need_long_replies_are_tried_with_them(tmp_path: Path):
    def refuse_short(body: dict[str, Any]) -> Any:
        short = body["max_tokens"] <= body.get("min_tokens", 0)
        return error(400, "min_tokens must be less than max_tokens") if short else None

    async with serving("plain") as server:
        server.fault_of = refuse_short
        options = {"extra_body": {"min_tokens": 20}}
        student = {**api(server, options=options), "sampling": {"n": 2, "max_tokens": 64}}
        run = await rlaif.agenerate(settings(tmp_path, student=student))
        assert run.status().rows == 4
        assert [body["max_tokens"] for body in tiny(server)] == [16, 64]


async def test_what_may_pass_does_not_make_a_model_unknown(tmp_path: Path):
    async with serving("plain") as server:
        server.models = ["by-another-name"]
        server.fault_of = lambda _: error(408, "upstream timed out")
        judges = judged_by(server, options={"max_attempts": 1})
        problem = await refused(settings(tmp_path, judges=judges))
        assert isinstance(problem, EngineUnavailable)
        assert "does not serve" not in problem.message


async def test_a_refusal_of_a_field_is_not_one_of_the_model(tmp_path: Path):
    async with serving("plain") as server:
        server.models = ["by-another-name"]
        server.fault_of = lambda _: error(400, "Unsupported parameter: 'temperature'")
        problem = await refused(settings(tmp_path, judges=judged_by(server)))
        assert "does not serve" not in problem.message
        assert "options.omit: [temperature]" in problem.hint


@pytest.mark.parametrize("status", [400, 500])
async def test_with_give_up_after_0_a_call_that_fails_only_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
):
    async with serving("plain") as server:
        server.fault_of = lambda body: (
            error(status, "not this one") if "capital of France" in str(body) else None
        )
        judges = judged_by(server, options={"max_attempts": 1})
        run = await rlaif.agenerate(settings(tmp_path, judges=judges, give_up_after=0))
        assert run.status().rows == 4
    assert "not this one" in caplog.text


async def test_tiny_calls_never_exceed_a_budget(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with serving("plain") as server:
        student = {**api(server), "sampling": {"n": 4}}
        config = settings(
            tmp_path, student=student, judges=judged_by(server), budget={"max_calls": 3}
        )
        with pytest.raises(StoppedEarly, match="budget"):
            await rlaif.agenerate(config)
        assert "the budget leaves no room" in caplog.text
        assert sum(spent(tmp_path / "run").values()) == len(server.chats()) == 1
        # Resumed, with room for the rest of one prompt and not for another try of the student.
        config["budget"] = {"max_calls": 4}
        with pytest.raises(StoppedEarly, match="budget"):
            await rlaif.agenerate(config)
        assert sum(spent(tmp_path / "run").values()) <= 4


async def test_many_calls_at_once_wait_for_one_try(tmp_path: Path):
    async with serving("plain") as server:
        config = settings(tmp_path, judges=judged_by(server))
        await rlaif.agenerate(config)
        server.seen.clear()
        server.latency = lambda: 0.1
        write_prompts(tmp_path, 30)
        run = await rlaif.agenerate(config)
        assert run.status().rows == 30
        assert len(tiny(server)) == 1
        with open_run(tmp_path / "run").ledger() as ledger:
            tries = [total for total in ledger.totals() if total.purpose == "preflight"]
        assert sum(total.calls for total in tries) == 2


async def test_a_server_that_says_503_while_it_loads_is_waited_for(tmp_path: Path):
    async with serving("plain", error(503, "Loading model"), error(503, "Loading model")) as server:
        server.instead_of_models = (503, b'{"error": {"message": "Loading model"}}')
        asyncio.get_running_loop().call_later(1.0, setattr, server, "instead_of_models", None)
        run = await rlaif.agenerate(settings(tmp_path, judges=judged_by(server)))
        assert run.status().rows == 4
        assert len(tiny(server)) == 3
