"""Whole runs over a real HTTP server that misbehaves: right rows or counted failures only."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.errors import EngineUnavailable, RunMismatch
from tests.e2e.project import row_bytes, write_project
from tests.engines.faults import (
    FaultServer,
    error,
    random_faults,
    refusal,
    serving,
    slow,
    too_many,
)


def api(server: FaultServer, transport: str) -> dict[str, Any]:
    return {
        "engine": "openai",
        "model": "test-model",
        "base_url": server.base_url,
        "options": {"transport": transport, "supports_n": True},
    }


def project(folder: Path, server: FaultServer, transport: str = "fast", **changes: Any) -> Path:
    endpoint = api(server, transport)
    return write_project(
        folder,
        prompts=40,
        student={**endpoint, "sampling": {"n": 2}},
        judges=[{"name": "main", **endpoint}],
        **changes,
    )


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["sdk", "fast"])
async def test_a_fifth_of_all_requests_going_wrong_loses_no_prompt(tmp_path: Path, transport: str):
    async with serving("vllm") as server:
        config = project(tmp_path, server, transport)
        clean = await rlaif.agenerate(config, overrides={"out": str(tmp_path / "clean")})
        server.fault_of = random_faults(0.2)
        patient = {"student.options.max_attempts": 20, "judges.0.options.max_attempts": 20}
        run = await rlaif.agenerate(config, overrides=patient)
    status = run.status()
    assert status.rows + status.failed == 40
    assert status.rows == 40
    assert not status.call_failures
    assert row_bytes(run.path) == row_bytes(clean.path)


async def test_what_is_refused_or_rejected_is_kept_and_counted(tmp_path: Path):
    def misbehave(body: dict[str, Any]) -> Any:
        text = body["messages"][-1]["content"]
        if body.get("max_tokens") != 1 and "Question 7:" in text:
            return error(400, "maximum context length is 2048 tokens", "context_length_exceeded")
        if body.get("max_tokens") == 1 and "Question 8:" in text:
            return error(422, "no")
        if body.get("max_tokens") == 1 and "Question 9:" in text:
            return refusal()
        return None

    async with serving("vllm") as server:
        server.fault_of = misbehave
        status = (await rlaif.agenerate(project(tmp_path, server))).status()
    assert (status.rows, status.failed) == (39, 1)
    assert status.failures == {"context-length": 1}
    assert status.abstentions["failed"] == 2
    assert status.call_failures == {"http-422": 2}
    assert status.abstentions["refused"] == 2
    assert status.drops["pair", "all-abstained"] == 2


async def test_an_outage_in_the_middle_delays_rows_and_drops_none(tmp_path: Path):
    async with serving("vllm") as server:
        server.latency = lambda: 0.01
        config = project(tmp_path, server)
        running = asyncio.create_task(rlaif.agenerate(config))
        while len(server.seen) < 40:
            await asyncio.sleep(0.005)
        await server.stop()
        await asyncio.sleep(0.5)
        await server.start()
        status = (await running).status()
    assert (status.rows, status.failed) == (40, 0)
    assert not status.call_failures


async def test_progress_says_once_that_the_server_of_student_and_judge_throttles(tmp_path: Path):
    shown: list[tuple[str, ...]] = []
    async with serving("vllm", too_many("1")) as server:
        await rlaif.agenerate(
            project(tmp_path, server, preflight=False),
            on_progress=lambda now: shown.append(now.pending),
        )
    where = server.base_url.removeprefix("http://").removesuffix("/v1")
    said = [words for words in shown if words]
    assert said
    for (words,) in said:
        assert words.startswith(f"{where} throttles")


async def test_a_server_that_stays_down_stops_the_run_and_the_next_start_has_every_row(
    tmp_path: Path,
):
    async with serving("vllm") as server:
        server.latency = lambda: 0.01
        config = project(tmp_path, server)
        outage = {"student.options.max_outage_s": 0.5, "judges.0.options.max_outage_s": 0.5}
        running = asyncio.create_task(rlaif.agenerate(config, overrides=outage))
        while len(server.seen) < 40:
            await asyncio.sleep(0.005)
        await server.stop()
        with pytest.raises(EngineUnavailable, match="no response from"):
            await running
        stopped = rlaif.open_run(tmp_path / "run").status()
        assert stopped.state == "interrupted"
        assert "no response from" in stopped.stopped
        assert stopped.failed == 0
        await server.start()
        status = (await rlaif.agenerate(config)).status()
    assert (status.rows, status.failed, status.stopped) == (40, 0, "")
    assert not status.call_failures


async def test_a_run_goes_on_at_another_address_when_the_server_has_a_name(tmp_path: Path):
    name = {"student.options.served_as": "ours", "judges.0.options.served_as": "ours"}
    async with serving("vllm") as here, serving("vllm") as there:
        run = await rlaif.agenerate(
            project(tmp_path, here), overrides={**name, "prompts.limit": 20}
        )
        asked = len(here.seen)
        moved = {"student.base_url": there.base_url, "judges.0.base_url": there.base_url}
        with pytest.raises(RunMismatch):
            await rlaif.agenerate(tmp_path / "run.yaml", overrides=moved)
        run = await rlaif.agenerate(tmp_path / "run.yaml", overrides={**name, **moved})
        assert run.status().rows == 40
        assert len(here.seen) == asked
        again = {**name, **moved, "out": str(tmp_path / "again"), "reuse": [str(run.path)]}
        asked = len(there.chats())
        await rlaif.agenerate(tmp_path / "run.yaml", overrides=again)
        assert len(there.chats()) == asked


async def test_a_server_that_gives_up_costs_no_call_in_flight_at_another(tmp_path: Path):
    async with serving("vllm") as server:
        server.fault_of = lambda body: (
            None if "Question 0:" in body["messages"][-1]["content"] else slow(1.5)
        )
        config = project(tmp_path, server, preflight=False)
        gone = {
            "judges.0.base_url": "http://127.0.0.1:9/v1",
            "judges.0.options": {"max_attempts": 1, "connect_timeout_s": 0.5, "max_outage_s": 0.2},
        }
        with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:9"):
            await rlaif.agenerate(config, overrides=gone)
        asked = len(server.chats())
    (total,) = rlaif.open_run(tmp_path / "run").status().calls
    assert 1 < asked < 20
    assert total.calls == 2 * asked


async def test_tokens_and_configured_prices_are_in_the_account(tmp_path: Path):
    async with serving("vllm") as server:
        config = project(tmp_path, server)
        price = {"input_per_million": 1.0, "output_per_million": 2.0}
        run = await rlaif.agenerate(config, overrides={"student.options.price": price})
    totals = {total.purpose: total for total in run.status().calls}
    sample = totals["sample"]
    expected = (sample.prompt_tokens * 1.0 + sample.completion_tokens * 2.0) / 1e6
    assert sample.price == pytest.approx(expected)
    assert totals["judge"].price is None


async def test_no_key_is_ever_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    secret = "sk-not-for-any-file-0123456789"
    monkeypatch.setenv("RLAIF_TEST_KEY", secret)
    async with serving("vllm") as server:
        server.key = secret
        config = project(tmp_path, server)
        keys = {"student.api_key_env": "RLAIF_TEST_KEY", "judges.0.api_key_env": "RLAIF_TEST_KEY"}
        one = {"judging.orders": "one"}  # this judge likes what it sees first: no pairs from both
        run = await rlaif.agenerate(config, overrides=keys | one)
    assert run.status().rows == 40
    rlaif.export(run, tmp_path / "export")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
