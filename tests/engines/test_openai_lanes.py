"""Lanes: slots, order, holds and what they report, on a real event loop."""

import asyncio
import gc

import pytest

from rlaif.engines.lanes import Bounds, Lane, enter, lane_to

URL = "http://127.0.0.1:1/v1"


def small(**changes: float) -> Bounds:
    return Bounds(start=2, minimum=1, maximum=2, **changes)


async def test_the_same_server_and_model_is_the_same_lane():
    first = lane_to(URL, "m", Bounds())
    assert lane_to(URL, "m", Bounds()) is first
    assert lane_to(URL, "other", Bounds()) is not first
    assert lane_to("http://127.0.0.1:2/v1", "m", Bounds()) is not first


async def test_a_lane_vanishes_with_its_last_user():
    lane = lane_to(URL, "m", Bounds(start=50, maximum=50))
    del lane
    gc.collect()
    assert lane_to(URL, "m", Bounds()).limit.limit == 20


def test_every_event_loop_has_its_own_lanes():
    async def get() -> Lane:
        return lane_to(URL, "m", Bounds())

    assert asyncio.run(get()) is not asyncio.run(get())


async def test_the_stricter_user_of_a_lane_wins():
    lane = lane_to(URL, "m", Bounds(maximum=100))
    lane_to(URL, "m", Bounds(maximum=5, max_outage_s=3.0))
    lane_to(URL, "m", Bounds(maximum=50))
    assert lane.limit.maximum == lane.limit.limit == 5
    assert lane.circuit.max_outage_s == 3.0


async def test_waiting_calls_are_served_in_order():
    lane = Lane(URL, "m", small())
    served: list[int] = []

    async def call(number: int) -> None:
        await enter([lane], 0.0)
        served.append(number)
        await asyncio.sleep(0.001)
        lane.release()

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(call(number))
    assert served == list(range(20))


async def test_a_call_takes_the_first_slot_that_any_server_has():
    busy, free = Lane(URL, "m", small()), Lane("http://127.0.0.1:2/v1", "m", small())
    for lane in (busy, busy, free, free):
        assert lane.try_acquire(0.0)
    waiting = asyncio.create_task(enter([busy, free], 0.0))
    await asyncio.sleep(0)
    assert (busy.stats().waiting, free.stats().waiting) == (1, 1)
    free.release()
    assert await waiting is free
    assert (busy.stats().waiting, free.stats().waiting) == (0, 0)


async def test_a_call_that_is_cancelled_while_waiting_leaves_no_trace():
    lane = Lane(URL, "m", small())
    assert lane.try_acquire(0.0)
    assert lane.try_acquire(0.0)
    waiting = asyncio.create_task(enter([lane], 0.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    lane.release()
    lane.release()
    assert (lane.stats().in_flight, lane.stats().waiting) == (0, 0)


async def test_a_call_that_is_cancelled_just_as_it_is_served_gives_the_slot_back():
    lane = Lane(URL, "m", small())
    assert lane.try_acquire(0.0)
    assert lane.try_acquire(0.0)
    waiting = asyncio.create_task(enter([lane], 0.0))
    await asyncio.sleep(0)
    lane.release()  # hands the slot over; the task has not run yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert lane.stats().in_flight == 1


async def test_a_held_lane_lets_nobody_in_until_the_time_is_over():
    lane = Lane(URL, "m", small())
    lane.throttle(0.2, hold=True)
    begun = lane.now()
    await enter([lane], 0.0)
    assert lane.now() - begun >= 0.2
    lane.release()


async def test_utilisation_counts_only_time_with_work():
    lane = Lane(URL, "m", Bounds(start=4, minimum=1, maximum=4))
    assert lane.stats().utilisation is None
    await asyncio.sleep(0.05)  # idle: not counted
    for _ in range(3):
        assert lane.try_acquire(0.0)
    await asyncio.sleep(0.05)
    for _ in range(3):
        lane.release()
    await asyncio.sleep(0.05)
    assert lane.stats().utilisation == pytest.approx(0.75, abs=0.02)


async def test_stats_are_json_with_the_utilisation():
    lane = Lane(URL, "m", small())
    shown = lane.stats().to_json()
    assert shown["limit"] == 2
    assert shown["utilisation"] is None
