"""How hard servers are pushed, how calls spread over several, and what happens when one is down."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rlaif.engines import Reply
from rlaif.engines.openai.engine import OpenAIEngine, build_openai_engine
from rlaif.engines.traffic import retries
from rlaif.errors import CallFailed, EngineUnavailable
from tests.engines.asking import ask_many, by_both_transports, engine_for, request
from tests.engines.faults import FaultServer, error, random_faults, reset, serving, truncated

STEADY = {"max_concurrency": 10, "max_attempts": 50}
"""With pauses this short, a server that takes its time to stop could use up five attempts."""


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BACKOFF_S", 0.01)


@by_both_transports
async def test_calls_in_flight_stay_below_the_maximum(transport):
    async with serving() as server:
        server.latency = lambda: 0.01
        engine = engine_for(server, transport=transport, max_concurrency=7)
        replies = await ask_many(engine, 100)
        assert all(isinstance(reply, Reply) for reply in replies)
        assert server.max_in_flight == 7
        await engine.aclose()


async def test_the_limit_grows_while_it_binds():
    async with serving() as server:
        server.latency = lambda: 0.03
        engine = engine_for(server, transport="fast", start_concurrency=4, min_concurrency=1)
        await ask_many(engine, 400)
        assert server.max_in_flight > 60
        await engine.aclose()


async def test_student_and_judge_share_one_limit():
    async with serving() as server:
        server.latency = lambda: 0.02
        student = engine_for(server, transport="fast", max_concurrency=8)
        judge = engine_for(server, transport="sdk", max_concurrency=6)
        async with asyncio.TaskGroup() as group:
            group.create_task(ask_many(student, 60))
            group.create_task(ask_many(judge, 60))
        assert student.stats() == judge.stats()
        # The student may have begun before the judge's stricter limit was known.
        assert server.max_in_flight <= 8
        assert student.stats()[0].limit == 6
        await student.aclose()
        await judge.aclose()


@by_both_transports
async def test_faults_at_random_lose_nothing(transport):
    async with serving() as server:
        server.fault_of = random_faults(0.2, seed=3)
        engine = engine_for(server, transport=transport, max_attempts=10)
        replies = await ask_many(engine, 300)
        assert all(isinstance(reply, Reply) for reply in replies)
        server.fault_of = lambda _body: None
        again = await ask_many(engine, 300)
        assert replies == again
        await engine.aclose()


async def test_requests_per_minute_are_spaced_at_the_server():
    async with serving() as server:
        engine = engine_for(server, transport="fast", requests_per_minute=240)
        begun = time.monotonic()
        await ask_many(engine, 12)
        # 240 a minute: a bucket of 4, then (240 - 4) / 60 = 3.93 a second for the other eight.
        assert server.chats()[-1].at - begun >= 8 / 3.94
        await engine.aclose()


async def test_tokens_per_minute_delay_calls_by_what_they_really_cost():
    async with serving() as server:
        engine = engine_for(server, transport="fast", tokens_per_minute=600)
        # A bucket of 10, (600 - 10) / 60 = 9.83 a second. A call is expected to cost some 300 but
        # costs 7, which is what the next one has to wait for: three times 7 / 9.83 = 0.712 s.
        begun = time.monotonic()
        await ask_many(engine, 4)
        assert 2.1 <= server.chats()[-1].at - begun < 20.0
        await engine.aclose()


@by_both_transports
async def test_a_server_that_is_not_there_is_one_clear_error(transport, dead_port: int):
    url = f"http://127.0.0.1:{dead_port}/v1"
    engine = build_openai_engine(
        model="test-model", base_url=url, options={"transport": transport, "max_outage_s": 0.4}
    )
    begun = time.monotonic()
    problems = await ask_many(engine, 20)
    assert time.monotonic() - begun < 15.0
    for problem in problems:
        assert isinstance(problem, EngineUnavailable)
        assert url in problem.message
        assert "refused" in problem.message.lower() or "connect" in problem.message.lower()
        assert "repeat the command" in problem.hint
    await engine.aclose()


@by_both_transports
async def test_a_server_that_stops_in_the_middle_stops_the_run(transport):
    async with serving() as server:
        server.latency = lambda: 0.02
        engine = engine_for(server, transport=transport, max_outage_s=0.6, **STEADY)
        asking = asyncio.create_task(ask_many(engine, 400))
        while len(server.seen) < 50:
            await asyncio.sleep(0.01)
        await server.stop()
        results = await asking
        good = [one for one in results if isinstance(one, Reply)]
        down = [one for one in results if isinstance(one, EngineUnavailable)]
        assert good
        assert down
        # No call is given up while the server may come back.
        assert len(good) + len(down) == 400
        with pytest.raises(EngineUnavailable):
            await engine.ask(request())
        await engine.aclose()


@by_both_transports
async def test_a_server_that_comes_back_in_time_delays_and_loses_nothing(transport):
    async with serving() as server:
        server.latency = lambda: 0.01
        engine = engine_for(server, transport=transport, max_outage_s=60, **STEADY)
        asking = asyncio.create_task(ask_many(engine, 100))
        while len(server.seen) < 30:
            await asyncio.sleep(0.005)
        await server.stop()
        await asyncio.sleep(0.7)
        await server.start()
        results = await asking
        assert all(isinstance(one, Reply) for one in results)
        await engine.aclose()


async def test_a_run_can_go_on_when_the_server_is_back():
    async with serving() as server:
        engine = engine_for(server, transport="fast", max_outage_s=0.3)
        await engine.ask(request())
        await server.stop()
        with pytest.raises(EngineUnavailable):
            await engine.ask(request())
        await server.start()
        await asyncio.sleep(1.2)  # the next probe is due by then
        (reply,) = await engine.ask(request())
        assert reply.finish == "stop"
        await engine.aclose()


@pytest.mark.parametrize("fault", [error(500), reset(), truncated()])
async def test_rows_that_always_fail_never_pass_for_a_dead_server(fault):
    # The last rows of a run: nothing but failures, far more than raise the suspicion.
    async with serving() as server:
        server.fault_of = lambda _body: fault
        engine = engine_for(server, transport="fast", max_attempts=5, max_outage_s=0.01)
        results = await ask_many(engine, 8)
        assert all(isinstance(one, CallFailed) for one in results)
        assert len(server.chats()) == 40
        server.fault_of = lambda _body: None
        (reply,) = await engine.ask(request())
        assert reply.finish == "stop"
        await engine.aclose()


async def test_one_bad_row_among_good_ones_fails_alone():
    async with serving() as server:
        server.fault_of = lambda body: reset() if body["seed"] == 13 else None
        engine = engine_for(server, transport="fast", max_attempts=7)
        results = await ask_many(engine, 40)
        assert [i for i, one in enumerate(results) if isinstance(one, CallFailed)] == [13]
        await engine.aclose()


async def test_whoever_comes_after_an_outage_finds_the_server_as_it_is_now():
    async with serving() as server:
        first = engine_for(server, transport="fast", max_outage_s=0.2)
        assert isinstance((await ask_many(first, 1))[0], Reply)
        await server.stop()
        assert isinstance((await ask_many(first, 1))[0], EngineUnavailable)
        lanes = first.stats()
        await server.start()
        second = engine_for(server, transport="fast", max_outage_s=0.2)
        assert isinstance((await ask_many(second, 1))[0], Reply)
        assert lanes[0].down
        await first.aclose()
        await second.aclose()


async def test_a_server_that_fails_every_call_stops_the_run_though_it_answers_probes():
    async with serving() as server:
        server.fault_of = lambda _body: error(500, "no model loaded")
        engine = engine_for(server, transport="fast", max_attempts=1, max_outage_s=0.01)
        results = await ask_many(engine, 150)
        assert sum(isinstance(one, CallFailed) for one in results) >= 99
        stopped = [one for one in results if isinstance(one, EngineUnavailable)]
        assert stopped
        assert "fails every call (HTTP 500: no model loaded)" in stopped[0].message
        assert "--retry-failed" in stopped[0].hint
        await engine.aclose()


async def test_a_server_that_fails_quickly_does_not_draw_the_retries_of_the_others():
    async with serving() as good, serving() as bad:
        good.latency = lambda: 0.02
        bad.fault_of = lambda _body: error(500)
        engine = engine_for(good, bad, transport="fast", max_attempts=2, max_concurrency=5)
        assert all(isinstance(one, Reply) for one in await ask_many(engine, 100))
        assert bad.chats()
        await engine.aclose()


async def test_calls_go_to_the_least_loaded_of_several_servers():
    async with serving() as quick, serving() as lazy:
        quick.latency, lazy.latency = (lambda: 0.01), (lambda: 0.5)
        engine = engine_for(quick, lazy, transport="fast", max_concurrency=8)
        replies = await ask_many(engine, 200)
        assert all(isinstance(reply, Reply) for reply in replies)
        assert len(quick.chats()) + len(lazy.chats()) == 200
        assert len(quick.chats()) > 2 * len(lazy.chats()) > 0
        assert max(quick.max_in_flight, lazy.max_in_flight) <= 8
        await engine.aclose()


@by_both_transports
async def test_when_one_of_several_servers_stops_the_others_do_its_work(transport):
    async with serving() as staying, serving() as going:
        staying.latency = going.latency = lambda: 0.01
        engine = engine_for(staying, going, transport=transport, max_outage_s=0.5, **STEADY)
        asking = asyncio.create_task(ask_many(engine, 200))
        while len(going.seen) < 20:
            await asyncio.sleep(0.005)
        await going.stop()
        results = await asking
        assert all(isinstance(one, Reply) for one in results)
        await engine.aclose()


@asynccontextmanager
async def beside_a_silent_server(
    *good: FaultServer,
) -> AsyncIterator[tuple[OpenAIEngine, list[str]]]:
    """An engine with one server more, which was down and now takes probes in silence."""
    asked: list[str] = []

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        await reader.read()
        writer.close()

    async with serving() as bad:
        engine = engine_for(*good, bad, transport="fast", connect_timeout_s=30.0)
        await bad.stop()
        # Several at once, so that one goes to the server that is down.
        assert all(isinstance(one, Reply) for one in await ask_many(engine, 4))
        silent = await asyncio.start_server(keep_silent, "127.0.0.1", bad.port)
        await asyncio.sleep(0.6)  # the next probe is due by then
        try:
            yield engine, asked
        finally:
            await engine.aclose()
            silent.close()
            await silent.wait_closed()


async def test_calls_do_not_wait_for_a_server_that_is_probed_while_another_is_well():
    async with serving() as good, beside_a_silent_server(good) as (engine, asked):
        assert sorted(one.down for one in engine.stats()) == [False, True]
        async with asyncio.timeout(10.0):
            replies = [await ask_many(engine, 20) for _ in range(3)]
        assert all(isinstance(one, Reply) for some in replies for one in some)
        assert [line.split()[:2] for line in asked] == [["GET", "/v1/models"]]


async def test_a_call_that_finds_no_server_waits_for_no_probe_while_another_is_well():
    async with (
        serving() as good,
        serving() as going,
        beside_a_silent_server(good, going) as (engine, _),
    ):
        await going.stop()
        async with asyncio.timeout(10.0):
            replies = await ask_many(engine, 20)
        assert all(isinstance(one, Reply) for one in replies)
        assert sum(one.down for one in engine.stats()) == 2


async def test_closing_ends_the_probes_under_way():
    async with serving() as good, beside_a_silent_server(good) as (engine, asked):
        before = asyncio.all_tasks()
        await engine.ask(request())
        while not asked:
            await asyncio.sleep(0.01)
        assert any("Sender._probe" in repr(one) for one in asyncio.all_tasks() - before)
        await engine.aclose()
        assert not any("Sender._probe" in repr(one) for one in asyncio.all_tasks())


async def test_a_cancelled_call_gives_its_slot_back():
    async with serving() as server:
        server.latency = lambda: 5.0
        engine = engine_for(server, transport="fast", max_concurrency=2)
        tasks = [asyncio.create_task(engine.ask(request(seed))) for seed in range(5)]
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        (stats,) = engine.stats()
        assert (stats.in_flight, stats.waiting) == (0, 0)
        server.latency = lambda: 0.0
        (reply,) = await engine.ask(request())
        assert reply.finish == "stop"
        await engine.aclose()
