"""The budget: what fits goes, what does not waits for what is in flight, and then the run stops."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings, strategies as st

from rlaif.config import RunConfig, load_config
from rlaif.engines import Generate, Label, Sampling
from rlaif.errors import ConfigError, StoppedEarly
from rlaif.sessions.budget import NOTHING, Budget, Spend, most_of, show_use

CALL = Spend(price=0.1, calls=1, tokens=10)


async def test_prices_that_add_up_to_the_limit_exactly_fit():
    budget = Budget(max_price=1.0)
    for _ in range(10):
        await budget.reserve(CALL)
        budget.settle(CALL, CALL)
    with pytest.raises(StoppedEarly, match=r"spent 1\.0000 of 1") as stopped:
        await budget.reserve(CALL)
    assert "raise budget.max_price and repeat the command" in stopped.value.hint


async def test_what_earlier_starts_spent_counts():
    budget = Budget(max_calls=3, spent=Spend(calls=2))
    await budget.reserve(CALL)
    budget.settle(CALL, CALL)
    with pytest.raises(StoppedEarly, match="calls 3 of 3"):
        await budget.reserve(CALL)


async def test_a_call_that_does_not_fit_waits_for_those_in_flight_and_goes_if_they_were_cheap():
    budget = Budget(max_tokens=15)
    await budget.reserve(CALL)
    second = asyncio.create_task(budget.reserve(CALL))
    await asyncio.sleep(0)
    assert not second.done()
    budget.settle(CALL, Spend(tokens=4))
    await second


async def test_nobody_is_stopped_while_a_paid_call_is_in_flight():
    budget = Budget(max_calls=2)
    await budget.reserve(CALL)
    await budget.reserve(CALL)
    late = asyncio.create_task(budget.reserve(CALL))
    await asyncio.sleep(0)
    budget.settle(CALL, CALL)
    await asyncio.sleep(0)
    assert not late.done()
    budget.settle(CALL, CALL)
    with pytest.raises(StoppedEarly):
        await late


async def test_after_the_stop_not_even_a_cheap_call_begins():
    budget = Budget(max_tokens=15)
    with pytest.raises(StoppedEarly):
        await budget.reserve(Spend(tokens=16))
    with pytest.raises(StoppedEarly, match="tokens 0 of 15"):
        await budget.reserve(Spend(tokens=1))


async def test_a_failed_call_gives_back_what_was_set_aside():
    budget = Budget(max_calls=1)
    await budget.reserve(CALL)
    budget.settle(CALL, NOTHING)
    await budget.reserve(CALL)


async def test_a_call_cancelled_while_it_waits_leaves_no_trace():
    budget = Budget(max_calls=1)
    await budget.reserve(CALL)
    first, second = (asyncio.create_task(budget.reserve(CALL)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    budget.settle(CALL, NOTHING)  # lets the second through: the first is gone
    await second
    third = asyncio.create_task(budget.reserve(CALL))
    await asyncio.sleep(0)
    budget.settle(CALL, NOTHING)  # hands the place over; the task has not run yet
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    await budget.reserve(CALL)


COSTS = st.tuples(st.integers(1, 50), st.integers(0, 50)).map(lambda two: (max(two), min(two)))


@given(st.lists(COSTS, max_size=60), st.integers(1, 400), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_spend_never_passes_a_limit_when_no_call_costs_more_than_was_set_aside(
    costs: list[tuple[int, int]], limit: int, workers: int
):
    async def run() -> int:
        budget = Budget(max_tokens=limit)
        left = iter(costs)
        spent = 0

        async def work() -> None:
            nonlocal spent
            with suppress(StoppedEarly):
                for most, real in left:
                    await budget.reserve(Spend(tokens=most))
                    await asyncio.sleep(0)
                    spent += real
                    budget.settle(Spend(tokens=most), Spend(tokens=real))

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
        assert sum(use.used for use in budget.uses()) == spent
        return spent

    assert asyncio.run(run()) <= limit


async def test_a_limit_that_needs_tokens_stops_when_they_are_not_reported():
    budget = Budget(max_tokens=100)
    budget.check_measured(0, priced=False, who="student")
    with pytest.raises(StoppedEarly, match="student does not say how many tokens") as stopped:
        await budget.reserve(CALL)
    assert "max_calls" in stopped.value.hint
    unpriced = Budget(max_price=1.0)
    unpriced.check_measured(0, priced=False, who="student")
    await unpriced.reserve(CALL)


def test_the_most_a_call_can_cost_comes_from_its_text_and_its_longest_reply():
    messages = ({"role": "user", "content": "x" * 30},)
    # 30 bytes / 3 + 8 for the message + 8 for the opening of the reply = 26; replies of 100.
    asked = Generate(messages, Sampling(max_tokens=100), (1, 2, 3))  # type: ignore[arg-type]
    assert most_of(asked, None) == Spend(0.0, 3, 3 * 126)
    assert most_of(Label(messages, ("A", "B")), None) == Spend(0.0, 1, 27)  # type: ignore[arg-type]


def test_use_is_shown_with_its_limit():
    (price,) = Budget(max_price=2.5, spent=Spend(1.25, 3, 4)).uses()
    (tokens,) = Budget(max_tokens=10_000_000, spent=Spend(1.25, 3, 4)).uses()
    assert [show_use(price), show_use(tokens)] == ["spent 1.2500 of 2.5", "tokens 4 of 10000000"]


@pytest.mark.parametrize("budget", [{}, {"max_price": 0}, {"max_calls": 0}, {"max_price": "inf"}])
def test_a_budget_that_limits_nothing_or_everything_is_refused(budget: dict[str, object]):
    run = {
        "name": "x",
        "prompts": {"path": "p.jsonl"},
        "constitution": "hhh",
        "student": {"engine": "scripted", "model": "echo"},
        "out": "run",
        "budget": budget,
    }
    with pytest.raises(ConfigError, match="budget"):
        load_config(RunConfig, run)


async def test_no_more_prompts_are_in_flight_than_what_is_left_pays_for():
    budget = Budget(max_calls=20)

    finished = 0

    async def prompt() -> None:
        nonlocal finished
        async with budget.item():
            for _ in range(4):
                await budget.reserve(Spend(calls=1))
                await asyncio.sleep(0)
                budget.settle(Spend(calls=1), Spend(calls=1))
            finished += 1

    async def tried() -> None:
        with suppress(StoppedEarly):
            await prompt()

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(tried())
    assert finished == 5, "20 calls are 5 whole prompts"


async def test_prompts_that_cost_nothing_say_nothing_about_what_one_costs():
    budget = Budget(max_calls=8)
    for _ in range(10):
        async with budget.item():
            pass
    assert budget._affordable() == 4
    async with budget.item():
        await budget.reserve(Spend(calls=2))
        budget.settle(Spend(calls=2), Spend(calls=2))
    assert budget._affordable() == 3
