"""Until one call of a kind succeeds few are in flight, and the same failure N times is the end."""

import asyncio

import pytest

from rlaif.errors import CallFailed, EngineError, EngineUnavailable, NothingSucceeded
from rlaif.records import Choice, Order, Verdict
from rlaif.sessions.outset import CallOutsets, Outset, VerdictOutset


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_more_than_the_limit_are_in_flight_until_one_succeeds():
    outset = Outset("calls", 3)
    waiting = [asyncio.create_task(outset.enter()) for _ in range(10)]
    await settle()
    assert sum(task.done() for task in waiting) == 3
    outset.fail("http-400", "x", hint="set y")
    outset.fail("http-400", "x", hint="set y")
    with pytest.raises(NothingSucceeded, match="x") as caught:
        outset.fail("http-400", "x", hint="set y")
    assert caught.value.hint.startswith("set y; ")
    await settle()
    problems = [task.exception() for task in waiting[3:]]
    assert all(isinstance(one, NothingSucceeded) for one in problems)
    assert len({id(one) for one in problems}) == 7


async def test_one_success_lets_all_go_and_ends_the_check():
    outset = Outset("calls", 2)
    waiting = [asyncio.create_task(outset.enter()) for _ in range(5)]
    await settle()
    outset.succeed()
    await settle()
    assert all(task.done() for task in waiting)
    for _ in range(4):
        outset.fail("http-400", "x")


async def test_failures_for_different_reasons_are_counted_apart():
    outset = Outset("calls", 3)
    for reason in ("a", "b", "a", "b"):
        await outset.enter()
        outset.fail(reason, "x")
    await outset.enter()
    with pytest.raises(NothingSucceeded, match="the first 3 calls all failed: words"):
        outset.fail("a", "words")


async def test_what_may_pass_is_worth_another_try_and_ends_with_3():
    outset = Outset("calls", 1)
    await outset.enter()
    with pytest.raises(EngineUnavailable):
        outset.fail("http-500", "x", may_pass=True)
    assert (EngineUnavailable.exit_code, NothingSucceeded.exit_code) == (3, 1)


async def test_a_call_that_is_cancelled_makes_room_for_another():
    outset = Outset("calls", 1)
    await outset.enter()
    second = asyncio.create_task(outset.enter())
    await settle()
    assert not second.done()
    outset.leave()
    await second


async def test_batches_are_not_held_back_and_stop_when_the_last_of_them_failed_too():
    outset = Outset("calls", 2, slow=False)
    for _ in range(4):
        await outset.enter()
    for _ in range(3):
        outset.fail("a", "x")
    with pytest.raises(EngineError):
        outset.fail("a", "x")


async def test_an_outage_ends_a_server_of_rewards_for_half_a_minute_only(
    monkeypatch: pytest.MonkeyPatch,
):
    outset = Outset("calls", 1)
    await outset.enter()
    with pytest.raises(EngineUnavailable):
        outset.fail("http-503", "x", may_pass=True)
    with pytest.raises(EngineUnavailable):
        await outset.enter()
    monkeypatch.setattr("rlaif.sessions.outset._RECOVERY_SECONDS", -1.0)
    await outset.enter()


async def test_prompts_that_are_too_long_say_nothing_about_the_next_ones():
    outsets = CallOutsets("student", 1, slow=True)
    outset = outsets.of("sample", str)
    for _ in range(3):
        await outset.enter()
        outsets.failed(outset, CallFailed("x", kind="context-length"))
    await outset.enter()
    with pytest.raises(NothingSucceeded):
        outsets.failed(outset, CallFailed("x", kind="http-400"))


async def test_one_refused_prompt_stops_nothing_however_many_verdicts_it_has():
    watch = VerdictOutset("main")
    watch.start(3, slow=True)
    for _ in range(9):
        await watch.begin()
        watch.end("p1", verdict("refused"))
    await watch.begin()
    watch.end("p2", verdict("refused"))
    await watch.begin()
    with pytest.raises(NothingSucceeded):
        watch.end("p3", verdict("refused"))


async def test_a_limit_of_0_checks_nothing():
    assert Outset("calls", 0).passed


def verdict(reason: str, choice: Choice = Choice.ABSTAIN) -> Verdict:
    return Verdict("main", "pairwise", "p", Order.AB, choice, reason=reason, raw="hm")


async def test_unreadable_verdicts_stop_with_the_option_and_failed_calls_do_not_count():
    watch = VerdictOutset("main")
    assert watch.passed
    watch.start(2, slow=True)
    for prompt, reason in enumerate(("failed", "unreadable", "failed")):
        await watch.begin()
        watch.end(f"p{prompt}", verdict(reason))
    await watch.begin()
    with pytest.raises(NothingSucceeded, match="'hm'") as caught:
        watch.end("p3", verdict("unreadable"))
    assert "words: true" in caught.value.hint


async def test_a_verdict_that_can_be_read_ends_the_check():
    watch = VerdictOutset("main")
    watch.start(1, slow=True)
    await watch.begin()
    watch.end("p1", verdict("", Choice.A))
    assert watch.passed
