import asyncio
from collections.abc import Sequence

import pytest

from rlaif.engines import Capability, Reply, Request, Score
from rlaif.engines.ask import ask_all, run_together
from rlaif.errors import CallFailed, EngineUnavailable


class Numbers:
    """Answers slower the smaller the number; 1 fails for good, 2 finds the server down."""

    identity = {"engine": "numbers"}  # noqa: RUF012 - the protocol wants it, nobody changes it
    capabilities = frozenset({Capability.SCORE})

    async def ask(self, request: Request) -> Sequence[Reply]:
        assert isinstance(request, Score)
        number = int(request.continuation)
        await asyncio.sleep(0.01 / (1 + number))
        if number == 1:
            raise CallFailed("one", kind="odd")
        if number == 2:
            raise EngineUnavailable("two")
        return [Reply(logprob=-float(number))]

    async def aclose(self) -> None:
        """Nothing to close."""


def scores(*numbers: int) -> list[Score]:
    return [Score((), str(number)) for number in numbers]


async def test_answers_keep_their_places_and_a_failed_call_takes_its_own() -> None:
    first, failed, last = await ask_all(Numbers(), scores(0, 1, 3))
    assert isinstance(failed, CallFailed)
    assert failed.kind == "odd"
    assert [first, last] == [[Reply(logprob=-0.0)], [Reply(logprob=-3.0)]]


async def test_a_dead_server_is_raised_as_itself_however_deep() -> None:
    async def deep(numbers: Sequence[Score]) -> None:
        await run_together([ask_all(Numbers(), numbers)])

    with pytest.raises(EngineUnavailable, match="two"):
        await run_together([deep(scores(0, 2)), deep(scores(0, 0))])


async def test_the_others_are_cancelled_when_one_raises() -> None:
    finished: list[int] = []

    async def slow(number: int) -> None:
        await asyncio.sleep(5)
        finished.append(number)

    async def bad() -> None:
        await asyncio.sleep(0)
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await asyncio.wait_for(run_together([slow(1), bad(), slow(2)]), 2)
    assert finished == []
