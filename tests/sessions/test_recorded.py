import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from rlaif.engines import Capability, Generate, Label, Reply, Request, Sampling, Usage, request_key
from rlaif.engines.scripted import ScriptedEngine
from rlaif.errors import CallFailed
from rlaif.runs import Entry, Ledger
from rlaif.sessions.budget import Budget
from rlaif.sessions.recorded import RecordedEngine

HELLO = ({"role": "user", "content": "hello"},)


def generate(*seeds: int, purpose: str = "sample") -> Generate:
    return Generate(HELLO, Sampling(), seeds, purpose=purpose)  # type: ignore[arg-type]


def counting(calls: list[Request]) -> ScriptedEngine:
    def answer(request: Request, seed: int | None) -> Reply:
        calls.append(request)
        return Reply(text=f"seed {seed}", usage=Usage(3, 2))

    return ScriptedEngine(answer)


async def test_a_reply_is_asked_once_and_remembered_by_the_next_process(tmp_path: Path):
    calls: list[Request] = []
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        await RecordedEngine(counting(calls), ledger, label="student").ask(generate(5))
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        engine = RecordedEngine(counting(calls), ledger, label="student")
        replies = await engine.ask(generate(5))
        assert [reply.text for reply in replies] == ["seed 5"]
        assert engine.asked.total() == 0
        assert engine.remembered == {"sample": 1}
    assert len(calls) == 1


async def test_wanting_more_samples_asks_only_for_the_new_ones(tmp_path: Path):
    calls: list[Request] = []
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        engine = RecordedEngine(counting(calls), ledger, label="student")
        await engine.ask(generate(1, 2))
        replies = await engine.ask(generate(3, 1, 2))
    assert [reply.text for reply in replies] == ["seed 3", "seed 1", "seed 2"]
    assert engine.asked == {"sample": 3}


async def test_the_purpose_counts_calls_but_is_no_part_of_the_question(tmp_path: Path):
    calls: list[Request] = []
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        engine = RecordedEngine(counting(calls), ledger, label="x")
        await engine.ask(generate(1, purpose="judge"))
        await engine.ask(generate(1, purpose="audit"))
    assert (engine.asked, engine.remembered) == ({"judge": 1}, {"audit": 1})


async def test_equal_questions_in_flight_are_asked_once(tmp_path: Path):
    asked = 0

    async def answer(request: Request, seed: int | None) -> Reply:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)
        return Reply(label_logprobs=(-0.1, -2.0))

    label = Label(HELLO, ("A", "B"), purpose="judge")  # type: ignore[arg-type]
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        engine = RecordedEngine(ScriptedEngine(answer), ledger, label="judge")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(engine.ask(label)) for _ in range(5)]
    assert asked == 1
    assert {task.result()[0].label_logprobs for task in tasks} == {(-0.1, -2.0)}


async def test_a_waiter_asks_by_itself_when_the_first_asker_is_cancelled(tmp_path: Path):
    async def answer(request: Request, seed: int | None) -> Reply:
        await asyncio.sleep(0.05)
        return Reply(text="late")

    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        engine = RecordedEngine(ScriptedEngine(answer), ledger, label="x")
        first = asyncio.create_task(engine.ask(generate(1)))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(engine.ask(generate(1)))
        await asyncio.sleep(0.01)
        first.cancel()
        assert (await second)[0].text == "late"


async def test_a_failed_call_is_no_fact_and_is_tried_again_next_time(tmp_path: Path):
    outcomes: list[Reply | Exception] = [CallFailed("no", kind="http-500"), Reply(text="yes")]
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        engine = RecordedEngine(ScriptedEngine(lambda *_: outcomes.pop(0)), ledger, label="x")
        with pytest.raises(CallFailed):
            await engine.ask(generate(1))
        assert (await engine.ask(generate(1)))[0].text == "yes"


async def test_the_ledger_key_is_the_one_that_records_carry(tmp_path: Path):
    calls: list[Request] = []
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        engine = RecordedEngine(counting(calls), ledger, label="x")
        await engine.ask(generate(7))
        entry = ledger.get(request_key(engine.identity, generate(7), 7))
    assert entry is not None
    assert entry.reply["text"] == "seed 7"
    assert (entry.prompt_tokens, entry.completion_tokens) == (3, 2)


class Seller:
    """Sells replies at half a dollar, and counts how often it was asked for the price of one."""

    identity: ClassVar = {"engine": "seller"}
    capabilities = frozenset({Capability.GENERATE})
    priced = 0

    async def ask(self, _: Request) -> Sequence[Reply]:
        return [Reply(usage=Usage(10, 1))]

    async def aclose(self) -> None: ...

    def price(self, usage: Usage) -> float | None:
        self.priced += 1
        return 0.5 if usage.prompt_tokens else None


async def test_what_replies_cost_is_added_up_where_a_price_is_known(tmp_path: Path):
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        engine = RecordedEngine(Seller(), ledger, label="x")
        await engine.ask(generate(1))
        await engine.ask(generate(2))
        await engine.ask(generate(1))
        assert engine.spent == 1.0
        assert ledger.totals()[0].price == 1.0


@pytest.mark.parametrize(("budget", "times"), [(None, 1), (Budget(max_price=10.0), 2)])
async def test_a_reply_is_priced_once_and_a_budget_prices_the_most_before(
    tmp_path: Path, budget: Budget | None, times: int
):
    seller = Seller()
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        await RecordedEngine(seller, ledger, label="x", budget=budget).ask(generate(1))
    assert seller.priced == times


async def test_who_waits_for_an_equal_call_learns_that_its_reply_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def answer(request: Request, seed: int | None) -> Reply:
        await asyncio.sleep(0.01)
        return Reply(text="lost")

    def full(_: Entry) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        monkeypatch.setattr(ledger, "put", full)
        engine = RecordedEngine(ScriptedEngine(answer), ledger, label="x")
        both = [asyncio.create_task(engine.ask(generate(1))) for _ in range(2)]
        done, _ = await asyncio.wait(both, timeout=5.0)
        assert len(done) == 2
        for task in both:
            with pytest.raises(OSError, match="no space left"):
                await task


class Wasting(ScriptedEngine):
    """Its server bills for a reply that cannot be used, before every call."""

    wasted: ClassVar[list[Usage]] = []

    async def ask(self, request: Request) -> Sequence[Reply]:
        self.wasted.append(Usage(40, 2))
        return await super().ask(request)

    def take_wasted(self) -> Usage | None:
        return self.wasted.pop() if self.wasted else None

    def price(self, usage: Usage) -> float | None:
        return usage.prompt_tokens / 100 + usage.completion_tokens


async def test_what_could_not_be_used_is_booked_and_answers_no_question(tmp_path: Path):
    budget = Budget(max_price=1000.0)
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        engine = RecordedEngine(
            Wasting(lambda _, seed: Reply(f"seed {seed}", usage=Usage(100, 1))),
            ledger,
            label="judge",
            budget=budget,
        )
        await engine.ask(generate(1))
        assert engine.spent == pytest.approx(2.4 + 2.0)
        assert budget.uses()[0].used == pytest.approx(2.4 + 2.0)

    def failing(request: Request, seed: int | None) -> Reply:
        raise CallFailed("unreadable", kind="no-logprobs")

    with Ledger.open(tmp_path / "m.sqlite") as ledger:
        engine = RecordedEngine(Wasting(failing), ledger, label="judge")
        with pytest.raises(CallFailed):
            await engine.ask(generate(1))
        (total,) = ledger.totals()
        assert (total.calls, total.prompt_tokens, total.completion_tokens) == (1, 40, 2)
        assert ledger.get(engine.key(generate(1), 1)) is None
