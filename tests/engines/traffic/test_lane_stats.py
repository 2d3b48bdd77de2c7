"""What the lanes of a model say about trouble."""

import asyncio
from dataclasses import replace

import pytest

from rlaif.engines.traffic import retries
from rlaif.engines.traffic.lane_stats import LaneStats, tell_trouble
from rlaif.engines.traffic.lanes import Bounds, Lane
from tests.engines.asking import ask_many, engine_for, request
from tests.engines.faults import serving, too_many

WELL = LaneStats(
    base_url="http://gpu1:8000/v1",
    model="m",
    limit=16,
    in_flight=16,
    waiting=3,
    requests=100,
    succeeded=80,
    throttled=4,
    retries=4,
    down=False,
    down_s=0.0,
    slowed=False,
    refusing_s=0.0,
    slot_seconds=1.0,
    limit_seconds=1.0,
)
DOWN = replace(WELL, base_url="http://gpu2:8000/v1", down=True, down_s=12.4)
SLOWED = replace(WELL, limit=12, slowed=True)
REFUSING = replace(SLOWED, refusing_s=240.0)


@pytest.mark.parametrize(
    ("lanes", "words"),
    [
        ([], ""),
        ([WELL, WELL], ""),
        ([replace(DOWN, down_s=0.4)], ""),
        ([WELL, DOWN], "gpu2:8000 down for 12 s"),
        ([WELL, DOWN, replace(DOWN, down_s=3.0)], "2 of 3 servers down for 12 s"),
        ([SLOWED], "gpu1:8000 throttles, 12 calls at once"),
        ([REFUSING], "gpu1:8000 throttles for 240 s, 12 calls at once"),
        ([REFUSING, SLOWED], "2 of 2 servers throttle, 24 calls at once"),
        ([SLOWED, DOWN], "gpu2:8000 down for 12 s, gpu1:8000 throttles, 12 calls at once"),
    ],
)
def test_only_servers_that_hold_calls_up_are_named(lanes: list[LaneStats], words: str):
    assert tell_trouble(lanes) == words


async def test_a_lane_knows_for_how_long_it_was_refused_or_down():
    lane, clock = Lane("http://gpu1:8000/v1", "m", Bounds()), [100.0]
    lane.now = lambda: clock[0]  # type: ignore[method-assign]
    assert tell_trouble([lane.stats()]) == ""
    lane.throttle(20.0, hold=True)
    clock[0] = 118.0
    lane.throttle(20.0, hold=True)
    clock[0] = 130.0
    assert tell_trouble([lane.stats()]) == "gpu1:8000 throttles for 30 s, 16 calls at once"
    lane.succeed(first_try=False)
    assert tell_trouble([lane.stats()]) == "gpu1:8000 throttles, 16 calls at once"
    clock[0] = 138.0
    assert tell_trouble([lane.stats()]) == ""
    lane.circuit.failed(138.0, "refused", unreachable=True)
    clock[0] = 150.0
    assert tell_trouble([lane.stats()]) == "gpu1:8000 down for 12 s"
    lane.circuit.probed(150.0, alive=True)
    assert tell_trouble([lane.stats()]) == ""


async def test_a_server_that_refused_its_last_call_long_ago_holds_nobody_up():
    lane, clock = Lane("http://gpu1:8000/v1", "m", Bounds()), [0.0]
    lane.now = lambda: clock[0]  # type: ignore[method-assign]
    lane.throttle(1.0, hold=False)
    clock[0] = 62.0
    assert tell_trouble([lane.stats()]) == ""


async def test_an_engine_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retries, "BACKOFF_S", 0.01)
    async with serving("vllm", too_many("0.2")) as server:
        engine = engine_for(server, transport="fast", max_outage_s=60)
        assert engine.pending() == ""
        asking = asyncio.create_task(ask_many(engine, 1))
        where = server.base_url.removeprefix("http://").removesuffix("/v1")
        while engine.pending() != f"{where} throttles, 16 calls at once":
            await asyncio.sleep(0.001)
        await asking
        await server.stop()
        waiting = asyncio.create_task(engine.ask(request()))
        while not engine.pending().startswith(f"{where} down for "):
            await asyncio.sleep(0.01)
        await server.start()
        await waiting
        assert "down" not in engine.pending()
        await engine.aclose()
