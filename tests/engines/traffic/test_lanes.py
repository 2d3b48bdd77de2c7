"""Lanes: slots, order, holds and what they report, on a real event loop."""

import asyncio
import gc

import pytest

from rlaif.engines.traffic.lanes import Bounds, Lane, enter, lane_to

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
    begun = lane.now()
    lane.throttle(0.2, hold=True)
    await enter([lane], 0.0)
    assert lane.now() - begun >= 0.2
    lane.release()


async def held_lane() -> tuple[Lane, list[float]]:
    """A lane told at time 0 to be silent for 300 s, and its clock."""
    lane, clock = Lane(URL, "m", Bounds(start=20, maximum=20)), [0.0]
    lane.now = lambda: clock[0]  # type: ignore[method-assign]
    lane.throttle(300.0, hold=True)
    return lane, clock


async def test_during_a_long_hold_one_call_a_minute_tries_the_server():
    lane, clock = await held_lane()
    taken = []
    for second in range(0, 310, 5):
        clock[0] = float(second)
        while lane.try_acquire(0.0):
            taken.append(second)
            if second >= 300:
                break
    assert taken == [60, 120, 180, 240, 300, 305]


async def test_a_hold_ends_when_the_call_that_tries_succeeds():
    lane, clock = await held_lane()
    clock[0] = 60.0
    assert lane.try_acquire(0.0)
    assert not lane.try_acquire(0.0)
    lane.succeed(first_try=True)
    lane.release()
    assert all(lane.try_acquire(0.0) for _ in range(10))


async def test_a_success_from_before_the_hold_does_not_end_it():
    lane, clock = await held_lane()
    clock[0] = 59.0
    lane.succeed(first_try=True)
    assert not lane.try_acquire(0.0)


async def test_a_call_that_tries_and_is_refused_starts_another_silence():
    lane, clock = await held_lane()
    clock[0] = 60.0
    assert lane.try_acquire(0.0)
    lane.throttle(240.0, hold=True)
    lane.release()
    clock[0] = 119.0
    assert not lane.try_acquire(0.0)
    clock[0] = 120.0
    assert lane.try_acquire(0.0)
    assert not lane.try_acquire(0.0)


async def test_utilisation_counts_only_time_with_work():
    lane, clock = Lane(URL, "m", Bounds(start=4, minimum=1, maximum=4)), [0.0]
    lane.now = lambda: clock[0]  # type: ignore[method-assign]
    assert lane.stats().utilisation is None
    clock[0] = 5.0  # idle: not counted
    for _ in range(3):
        assert lane.try_acquire(0.0)
    clock[0] = 6.0
    for _ in range(3):
        lane.release()
    clock[0] = 9.0
    assert lane.stats().utilisation == pytest.approx(0.75)


async def test_stats_are_json_with_the_utilisation():
    lane = Lane(URL, "m", small())
    shown = lane.stats().to_json()
    assert shown["limit"] == 2
    assert shown["utilisation"] is None
