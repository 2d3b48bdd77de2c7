import asyncio
from pathlib import Path

import pytest

from rlaif.config.run import BudgetConfig
from rlaif.errors import EngineUnavailable
from rlaif.pipeline.ray.coordinator import Coordinator, Done, describe_problem, is_known
from rlaif.records import Failure
from rlaif.runs import Ledger
from rlaif.sessions.budget import NOTHING, Spend
from tests.runs.ledger.test_replies import entry

ONE = Spend(calls=1)


def coordinator(*, calls: int | None = None, ledger: Path | None = None) -> Coordinator:
    budget = None if calls is None else BudgetConfig(max_calls=calls)
    return Coordinator(ledger=ledger, reuse=(), budget=budget, spent=NOTHING)


def test_results_arrive_as_they_were_sent():
    sent = Done(
        failures=[Failure("sample", "p1", "http-500", "half a character: \ud800")],
        left=2,
        asked={"sample": 3},
        spent=Spend(0.5, 3, 40),
        problem=describe_problem(EngineUnavailable("down", hint="start it"), ""),
    )
    got = Done.decode(*sent.encode())
    assert (got.left, got.asked, got.spent) == (2, {"sample": 3}, Spend(0.5, 3, 40))
    assert got.failures[0].kind == "http-500"
    error = got.error()
    assert isinstance(error, EngineUnavailable)
    assert (error.message, error.hint) == ("down", "start it")


def test_a_program_error_keeps_its_trace():
    error = Done(problem=describe_problem(KeyError("x"), "Traceback: line 7")).error()
    assert isinstance(error, RuntimeError)
    assert "line 7" in str(error)


async def test_the_budget_is_one_for_all_workers():
    shared = coordinator(calls=3)
    assert await shared.reserve("a", ONE) is None
    assert await shared.reserve("b", ONE) is None
    await shared.settle("a", ONE, ONE)
    await shared.settle("b", ONE, ONE)
    assert await shared.reserve("a", ONE) is None
    await shared.settle("a", ONE, ONE)
    refused = await shared.reserve("b", ONE)
    assert refused is not None
    assert "calls 3 of 3" in refused[0]


async def test_under_a_budget_few_prompts_are_begun_over_all_workers_until_it_stops():
    shared = coordinator(calls=8)
    await shared.hello("a")
    await shared.hello("b")

    async def begins(worker: str) -> bool:
        task = asyncio.ensure_future(shared.begin(worker))
        await asyncio.sleep(0.01)
        waiting.append(task)
        return task.done()

    waiting: list[asyncio.Future[None]] = []
    assert [await begins("ab"[n % 2]) for n in range(6)] == [True] * 4 + [False] * 2
    await shared.reserve("a", Spend(calls=4))
    await shared.settle("a", Spend(calls=4), Spend(calls=4))
    await shared.end("a")  # a prompt costs 4 of the 4 calls left: 3 in flight are too many
    assert not await begins("b")
    await shared.hello("b")  # it died: neither what it began nor what it waited with is in flight
    await shared.end("a")
    await asyncio.sleep(0.01)
    assert [task.done() for task in waiting[4:]] == [True, False, False]
    await shared.end("a")
    assert await begins("a")
    assert all(task.done() for task in waiting)
    assert not await begins("a")
    stop = asyncio.ensure_future(shared.stop(0))
    await asyncio.sleep(0.01)
    assert waiting[-1].done()
    await shared.drained("a")
    await shared.drained("b")
    await stop


async def test_what_a_dead_worker_had_set_aside_counts_as_spent_when_it_comes_back():
    shared = coordinator(calls=2)
    await shared.hello("a")
    await shared.reserve("a", ONE)
    waiting = asyncio.create_task(shared.reserve("b", Spend(calls=2)))
    await asyncio.sleep(0)
    assert not waiting.done()  # it may fit once the call in flight has landed
    await shared.hello("a")
    refused = await waiting
    assert refused is not None
    assert "calls 1 of 2" in refused[0]


async def test_stopping_waits_until_every_worker_has_drained():
    shared = coordinator()
    await shared.hello("a")
    await shared.hello("b")
    told = asyncio.create_task(shared.stopping())
    stop = asyncio.create_task(shared.stop(5.0))
    assert await told == 5.0
    await shared.drained("a")
    await asyncio.sleep(0)
    assert not stop.done()
    await shared.drained("b")
    await stop


async def test_a_worker_that_only_dies_is_told_apart_from_one_that_works():
    shared = coordinator()
    assert [await shared.hello("a") for _ in range(3)] == [1, 2, 3]
    await shared.progressed("a")
    assert await shared.hello("a") == 1


async def test_earlier_replies_are_known_and_found(tmp_path: Path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger.put(entry(7))
    shared = coordinator(ledger=tmp_path / "ledger.sqlite")
    known = await shared.known()
    assert is_known(known, entry(7).key)
    assert not is_known(known, entry(8).key)
    assert await shared.find([entry(7).key, entry(8).key]) == [(entry(7), True), (None, False)]


async def test_replies_of_other_runs_are_found_before_the_run_has_any(tmp_path: Path):
    (tmp_path / "old").mkdir()
    with Ledger.open(tmp_path / "old" / "ledger.sqlite") as ledger:
        ledger.put(entry(7))
    # A run in an object store has no ledger file, and no reply shard before the first reply.
    ledger_path = tmp_path / "new" / "ledger.sqlite"
    shared = Coordinator(ledger=ledger_path, reuse=[tmp_path / "old"], budget=None, spent=NOTHING)
    assert is_known(await shared.known(), entry(7).key)
    ((found, ours),) = await shared.find([entry(7).key])
    assert found is not None
    assert found.reused
    assert not ours


@pytest.mark.parametrize("number", [0, 2**128 - 1, 256])
async def test_keys_with_zero_bytes_are_known_like_others(tmp_path: Path, number: int):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger.put(entry(number))
    assert is_known(await coordinator(ledger=tmp_path / "ledger.sqlite").known(), entry(number).key)
