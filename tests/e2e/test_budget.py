"""Runs with a budget: they stop in time, keep what was paid for, and resume when it is raised."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.errors import StoppedEarly
from rlaif.pipeline import Progress
from tests.e2e.project import rlaif as command, row_bytes, write_project
from tests.engines.faults import FaultServer, payload, refusal, serving

PRICE = {"input_per_million": 1.0, "output_per_million": 10.0}


def project(folder: Path, server: FaultServer, *, price: bool = True, **changes: Any) -> Path:
    options = {"transport": "fast", **({"price": PRICE} if price else {})}
    model = {
        "engine": "openai",
        "model": "test-model",
        "base_url": server.base_url,
        "options": options,
    }
    sampling = {"n": 2, "max_tokens": 20}
    roles = {"student": {**model, "sampling": sampling}, "judges": [{"name": "main", **model}]}
    return write_project(folder, **{**roles, **changes})


@pytest.mark.parametrize("name", ["max_price", "max_calls", "max_tokens"])
async def test_a_budget_stops_the_run_and_raising_it_ends_in_the_same_rows(
    tmp_path: Path, name: str
):
    async with serving("plain") as server:
        server.latency = lambda: 0.002
        config = project(tmp_path, server)
        whole = await rlaif.agenerate(config, overrides={"out": str(tmp_path / "whole")})
        calls = whole.status().calls
        total = {
            "max_price": sum(one.price or 0.0 for one in calls),
            "max_calls": sum(one.calls for one in calls),
            "max_tokens": sum(one.prompt_tokens + one.completion_tokens for one in calls),
        }[name]
        used = spent_on_the_way = 0.0
        for share in (0.3, 0.6, 1.1):
            limit = total * share if name == "max_price" else int(total * share)
            budget = {f"budget.{name}": limit}
            paid_before = server.counts["/v1/chat/completions"]
            if share < 1:
                with pytest.raises(StoppedEarly, match="the budget is used up") as stopped:
                    await rlaif.agenerate(config, overrides=budget)
                assert f"raise budget.{name}" in stopped.value.hint
                assert "of 60 prompts are rows" in stopped.value.message
            else:
                await rlaif.agenerate(config, overrides=budget)
            status = rlaif.open_run(tmp_path / "run").status()
            used = {
                "max_price": status.price or 0.0,
                "max_calls": sum(one.calls for one in status.calls),
                "max_tokens": sum(o.prompt_tokens + o.completion_tokens for o in status.calls),
            }[name]
            assert spent_on_the_way < used <= limit
            spent_on_the_way = used
            assert server.counts["/v1/chat/completions"] > paid_before
        paid, once = (
            [(one.calls, one.prompt_tokens) for one in some if one.purpose != "preflight"]
            for some in (rlaif.open_run(tmp_path / "run").status().calls, calls)
        )
        assert paid == once  # nothing was paid for twice
    assert row_bytes(tmp_path / "run") == row_bytes(tmp_path / "whole")


async def test_calls_in_flight_at_the_stop_are_finished_and_kept(tmp_path: Path):
    async with serving("plain") as server:
        server.latency = lambda: 0.05
        with pytest.raises(StoppedEarly):
            await rlaif.agenerate(project(tmp_path, server), overrides={"budget.max_calls": 31})
        await asyncio.sleep(0.1)
        answered = sum(seen.body.get("n", 1) for seen in server.chats())
    status = rlaif.open_run(tmp_path / "run").status()
    assert sum(one.calls for one in status.calls) == answered
    assert answered in (30, 31)  # two samples are one call: the last place may stay empty


async def test_the_command_line_says_what_was_spent_and_how_to_resume(tmp_path: Path):
    async with serving("plain") as server:
        # The judge likes the first place: only with one order does that make pairs.
        budget, judging = {"max_price": 0.0105}, {"orders": "one"}
        config = project(tmp_path, server, budget=budget, judging=judging)
        done = await asyncio.to_thread(command, "generate", config, "--json", cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        assert "the budget is used up: spent 0.01" in done.stderr
        assert "of 0.0105" in done.stderr
        assert "raise budget.max_price and repeat the command" in done.stderr
        assert "Traceback" not in done.stderr
        last = [json.loads(line) for line in done.stdout.splitlines()][-1]
        assert last["budget"][0]["limit"] == 0.0105
        assert 0.009 < last["budget"][0]["used"] <= 0.0105
        shown = command("status", "run", cwd=tmp_path).stdout
        assert "in all" in shown
        assert "stopped     the budget is used up" in shown
        words = ("--set", "budget.max_price=5")
        done = await asyncio.to_thread(command, "generate", config, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "stopped " not in done.stdout
        exported = command("export", "run", "--out", "export", cwd=tmp_path)
        assert exported.returncode == 0, exported.stderr
        card = (tmp_path / "export" / "README.md").read_text()
        status = rlaif.open_run(tmp_path / "run").status()
        assert f"in all, as far as prices are known: {status.price:.4f}" in card


async def test_money_with_an_unknown_price_is_refused_before_anything_starts(tmp_path: Path):
    async with serving("plain") as server:
        config = project(tmp_path, server, price=False, budget={"max_price": 1})
        done = await asyncio.to_thread(command, "generate", config, cwd=tmp_path)
        assert done.returncode == 2
        assert "budget.max_price: the price of student (test-model) is not known" in done.stderr
        assert "input_per_million" in done.stderr
        assert not (tmp_path / "run").exists()
        assert not server.seen


def test_an_engine_in_this_process_costs_no_money(tmp_path: Path):
    config = write_project(tmp_path, prompts=3, budget={"max_price": 0.01})
    assert rlaif.generate(config).status().rows == 3


async def test_a_server_that_does_not_count_tokens_stops_a_run_that_must_count_them(
    tmp_path: Path,
):
    reply = {"message": {"content": "words"}, "finish_reason": "stop"}
    async with serving("plain") as server:
        server.fault_of = lambda body: payload({"choices": [reply] * body.get("n", 1)})
        config = project(tmp_path, server, constitution="concise", judges=[])
        with pytest.raises(StoppedEarly, match="does not say how many tokens"):
            await rlaif.agenerate(config, overrides={"budget.max_tokens": 100_000})
        assert len(server.chats()) <= 8  # what was in flight
        run = await rlaif.agenerate(config, overrides={"budget.max_calls": 500})
    assert run.status().rows == 60


async def test_a_filtered_prompt_is_no_reason_to_stop(tmp_path: Path):
    async with serving("plain") as server:
        server.fault_of = lambda body: refusal() if "Question 7:" in str(body) else None
        config = project(tmp_path, server, budget={"max_price": 1})
        assert (await rlaif.agenerate(config)).status().rows == 60


async def test_progress_shows_the_spend_of_earlier_starts(tmp_path: Path):
    async with serving("plain") as server:
        config = project(tmp_path, server)
        first = (await rlaif.agenerate(config, overrides={"prompts.limit": 30})).status()
        seen: list[Progress] = []
        await rlaif.agenerate(config, on_progress=seen.append)
    assert seen[0].price == pytest.approx(first.price)
    assert (seen[-1].price or 0.0) > (seen[0].price or 0.0)
