import asyncio
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest

from rlaif.sessions import concurrent
from rlaif.sessions.concurrent import read_in_thread, run_all, still_reading


async def test_every_item_is_worked_on_once_and_never_too_many_at_a_time():
    done: list[int] = []
    running = peak = 0

    async def work(item: int) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.001)
        running -= 1
        done.append(item)

    await run_all(iter(range(500)), work, concurrency=7)
    assert sorted(done) == list(range(500))
    assert peak == 7


async def test_a_slow_item_holds_up_nobody_else():
    finished: list[int] = []
    others = asyncio.Event()

    async def work(item: int) -> None:
        await (asyncio.wait_for(others.wait(), 30) if item == 0 else asyncio.sleep(0.001))
        finished.append(item)
        if len(finished) == 99:
            others.set()

    await run_all(iter(range(100)), work, concurrency=4)
    assert finished[-1] == 0


async def test_the_reader_does_not_run_far_ahead_of_the_work():
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for item in range(100_000):
            read += 1
            yield item

    ahead = 0
    worked = 0

    async def work(item: int) -> None:
        nonlocal ahead, worked
        worked += 1
        ahead = max(ahead, read - worked)
        await asyncio.sleep(0)
        if worked == 2000:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        await run_all(items(), work, concurrency=8)
    assert ahead < 1000


async def test_the_first_error_of_the_work_comes_out_as_it_is():
    async def work(item: int) -> None:
        if item == 3:
            raise ZeroDivisionError("three")
        await asyncio.sleep(0.01)

    with pytest.raises(ZeroDivisionError, match="three"):
        await run_all(iter(range(10)), work, concurrency=2)


async def test_an_error_of_the_reader_comes_out_as_it_is():
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    async def work(item: int) -> None:
        await asyncio.sleep(0)

    with pytest.raises(OSError, match="the disk is gone"):
        await run_all(items(), work, concurrency=2)


async def test_no_items_is_no_work():
    async def work(item: int) -> None:
        raise AssertionError

    await run_all(iter([]), work, concurrency=3)


async def test_work_that_calls_enough_lets_others_finish_for_a_while_and_begins_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(concurrent, "DRAIN_SECONDS", 0.3)
    enough = asyncio.Event()
    begun: list[int] = []
    finished: list[int] = []

    async def work(item: int) -> None:
        begun.append(item)
        await asyncio.sleep((0.0, 0.1, 60.0)[item])
        if item == 0:
            enough.set()
        finished.append(item)

    await run_all(iter(range(3)), work, concurrency=3, enough=enough)
    assert (sorted(begun), finished) == ([0, 1, 2], [0, 1])
    await run_all(iter(range(3)), work, concurrency=1, enough=enough)
    assert len(begun) <= 4


async def test_workers_that_wait_for_a_slow_reader_get_every_item_once():
    def items() -> Iterator[int]:
        for item in range(20):
            time.sleep(0.01)
            yield item

    done: list[int] = []

    async def work(item: int) -> None:
        done.append(item)
        await asyncio.sleep(0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(concurrent, "_READ_AHEAD", 1)
        await run_all(items(), work, concurrency=5)
    assert sorted(done) == list(range(20))


async def test_what_a_slow_reader_finds_after_enough_is_not_begun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(concurrent, "_READ_AHEAD", 1)
    enough, read_on = asyncio.Event(), threading.Event()
    read: list[int] = []

    def items() -> Iterator[int]:
        yield 0
        read_on.wait(30)
        read.append(1)
        yield 1

    begun: list[int] = []

    async def work(item: int) -> None:
        begun.append(item)
        enough.set()
        read_on.set()
        while not read:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # until what was read has arrived

    await asyncio.wait_for(run_all(items(), work, concurrency=3, enough=enough), 30)
    assert begun == [0]


async def test_what_is_read_from_is_closed_when_nothing_more_is_wanted():
    closed: list[bool] = []
    enough = asyncio.Event()

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    async def work(item: int) -> None:
        enough.set()

    source = items()
    await run_all(source, work, concurrency=2, enough=enough)
    assert closed == [True]
    assert not still_reading()


@pytest.mark.parametrize("way", ["run_all", "read_in_thread"])
def test_a_signal_waits_for_no_reader(way: str):
    program = textwrap.dedent(f"""
        import asyncio, os, time
        from rlaif.sessions.concurrent import Interrupted, read_in_thread, run_all
        def items():
            os.write(1, b"reading\\n")  # a thread that is left behind would keep print's lock
            time.sleep(100)
            yield 1
        async def work(item):
            pass
        async def run_all_():
            await run_all(items(), work, concurrency=5)
        async def read_in_thread_():
            await read_in_thread(lambda: list(items()))
        async def main():
            try:
                await {way}_()
            except Interrupted:
                print("interrupted")
        asyncio.run(main())
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "reading\n"
    os.kill(child.pid, signal.SIGTERM)
    output, _ = child.communicate(timeout=10)
    assert output.strip() == "interrupted"
    assert child.returncode == 0


async def test_what_reading_in_a_thread_returns_or_raises_comes_out_as_it_is():
    assert await read_in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await read_in_thread(lambda: 1 // 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_work_in_flight_finish_and_starts_nothing_new(number: signal.Signals):
    program = textwrap.dedent("""
        import asyncio, itertools
        from rlaif.sessions.concurrent import Interrupted, run_all
        started, done = [], []
        async def work(item):
            started.append(item)
            print("started", flush=True) if item == 0 else None
            await asyncio.sleep(0.3)
            done.append(item)
        async def main():
            try:
                await run_all(itertools.count(), work, concurrency=5)
            except Interrupted:
                print(sorted(started) == sorted(done), len(done) < 40)
        asyncio.run(main())
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    time.sleep(0.4)
    os.kill(child.pid, number)
    output, _ = child.communicate(timeout=20)
    assert output.strip() == "True True"
