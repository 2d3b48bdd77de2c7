"""What every engine must keep to, whatever is behind it."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from rlaif.engines import (
    Capability,
    Engine,
    Generate,
    Label,
    Reply,
    Request,
    Sampling,
    Score,
    request_key,
)
from rlaif.errors import CallFailed
from rlaif.records import Message
from tests.engines.cases import CASES, Case


def user(content: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": content},)


PROMPT = user("How do I boil an egg?")
OTHERS = [user("Yes."), user("Which is better, A or B? Say one letter."), user("No. " * 8)]
THREE = Generate(PROMPT, Sampling(max_tokens=12), (1, 2, 3))
LABEL = Label(OTHERS[1], ("A", "B"))


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.model, pytest.mark.slow])
        if name == "embedded"
        else name
        for name in CASES
    ]
)
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    async with CASES[request.param](tmp_path) as opened:
        yield opened


async def ask_together(engine: Engine, requests: Sequence[Request]) -> list[Reply]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.ask(request)) for request in requests]
    return [reply for task in tasks for reply in task.result()]


async def ask_one(engine: Engine, request: Request) -> Reply:
    (reply,) = await engine.ask(request)
    return reply


def some_of_everything(engine: Engine) -> list[Request]:
    requests: list[Request] = [
        request
        for prompt in (PROMPT, *OTHERS)
        for request in (replace(THREE, messages=prompt), replace(LABEL, messages=prompt))
    ]
    if Capability.SCORE in engine.capabilities:
        requests += [Score(prompt, "Put it in water.") for prompt in (PROMPT, *OTHERS)]
    return requests


async def test_there_is_one_reply_per_seed_in_their_order(case: Case) -> None:
    replies = await case.engine.ask(THREE)
    apart = [await ask_one(case.engine, replace(THREE, seeds=(seed,))) for seed in THREE.seeds]
    assert [reply.text for reply in replies] == [reply.text for reply in apart]


async def test_a_seed_gives_the_same_text_again_and_other_seeds_give_others(case: Case) -> None:
    first, again = await case.engine.ask(THREE), await case.engine.ask(THREE)
    assert [reply.text for reply in first] == [reply.text for reply in again]
    assert len({reply.text for reply in first}) == 3


async def test_replies_keep_to_max_tokens_and_count_what_they_took(case: Case) -> None:
    replies = await case.engine.ask(replace(THREE, sampling=Sampling(max_tokens=2)))
    for reply in replies:
        assert reply.finish in ("stop", "length")
        assert len(reply.text.split()) <= 4
    assert sum(reply.usage.prompt_tokens for reply in replies) > 0
    assert sum(reply.usage.completion_tokens for reply in replies) > 0


async def test_label_probabilities_add_up_to_one_at_most(case: Case) -> None:
    for prompt in (PROMPT, *OTHERS):
        reply = await ask_one(case.engine, Label(prompt, ("A", "B")))
        known = [value for value in reply.label_logprobs if value is not None]
        assert len(known) == 2
        assert sum(map(math.exp, known)) <= 1.0 + 1e-6


async def test_values_of_labels_do_not_depend_on_their_order(case: Case) -> None:
    reply = await ask_one(case.engine, LABEL)
    turned = await ask_one(case.engine, replace(LABEL, labels=("B", "A")))
    assert reply.label_logprobs == pytest.approx(turned.label_logprobs[::-1], abs=1e-4)


async def test_a_longer_continuation_is_less_likely(case: Case) -> None:
    if Capability.SCORE not in case.engine.capabilities:
        pytest.skip("this engine does not score")
    short = await ask_one(case.engine, Score(PROMPT, "Put it in water."))
    long = await ask_one(case.engine, Score(PROMPT, "Put it in water. " * 9))
    assert short.logprob is not None
    assert long.logprob is not None
    assert long.logprob < short.logprob < 0.0
    assert short.scored_tokens is not None
    assert long.scored_tokens is not None
    assert long.scored_tokens > short.scored_tokens > 0


async def test_an_empty_continuation_fails_its_call(case: Case) -> None:
    if Capability.SCORE not in case.engine.capabilities:
        pytest.skip("this engine does not score")
    with pytest.raises(CallFailed, match="empty"):
        await case.engine.ask(Score(PROMPT, ""))


async def test_asking_side_by_side_is_asking_in_turn(case: Case) -> None:
    requests = some_of_everything(case.engine)
    in_turn = [reply for request in requests for reply in await case.engine.ask(request)]
    side_by_side = await ask_together(case.engine, requests)
    for one, other in zip(in_turn, side_by_side, strict=True):
        assert (one.text, one.finish) == (other.text, other.finish)
        # What came from a cache is a matter of what was asked before.
        assert replace(one.usage, cached_tokens=0) == replace(other.usage, cached_tokens=0)
        assert one.label_logprobs == pytest.approx(other.label_logprobs, abs=case.tolerance)
        assert one.logprob == pytest.approx(other.logprob, abs=case.tolerance)


async def test_an_over_long_prompt_fails_its_own_call_only(case: Case) -> None:
    if case.too_long is None:
        pytest.skip("this engine knows no limit")
    async with asyncio.TaskGroup() as group:
        good = group.create_task(case.engine.ask(THREE))
        bad = group.create_task(_failure(case.engine, Label(case.too_long, ("A", "B"))))
    assert len(good.result()) == 3
    assert bad.result().kind == "context-length"


async def _failure(engine: Engine, request: Request) -> CallFailed:
    with pytest.raises(CallFailed) as failure:
        await engine.ask(request)
    return failure.value


async def test_what_it_says_it_can_do_it_does(case: Case) -> None:
    engine, can = case.engine, case.engine.capabilities
    assert Capability.GENERATE in can
    if Capability.SAMPLES in can:
        assert len(await engine.ask(THREE)) == 3
    if Capability.LABEL_LOGPROBS in can:
        assert None not in (await ask_one(engine, LABEL)).label_logprobs
    if Capability.PREFILL in can:
        assert len(await engine.ask(replace(LABEL, stub="The better one is "))) == 1
        assert len(await engine.ask(replace(THREE, stub="Put it"))) == 3
    if Capability.STRUCTURED in can:
        reply = await ask_one(engine, replace(THREE, seeds=(1,), choices=("left", "right")))
        assert reply.text in ("left", "right")


async def test_the_purpose_is_no_part_of_the_question(case: Case) -> None:
    engine = case.engine
    for request in some_of_everything(engine):
        other = replace(request, purpose="something else")
        assert request_key(engine.identity, request) == request_key(engine.identity, other)
    reply = await ask_one(engine, LABEL)
    other_reply = await ask_one(engine, replace(LABEL, purpose="something else"))
    assert reply.label_logprobs == pytest.approx(other_reply.label_logprobs, abs=case.tolerance)


async def test_the_identity_is_plain_data_and_stays_what_it_is(case: Case) -> None:
    before = dict(case.engine.identity)
    await case.engine.ask(THREE)
    assert dict(case.engine.identity) == before
    assert orjson.loads(orjson.dumps(before)) == before


async def test_replies_survive_being_written_down(case: Case) -> None:
    for reply in await ask_together(case.engine, some_of_everything(case.engine)):
        assert Reply.from_json(orjson.loads(orjson.dumps(reply.to_json()))) == reply


async def test_it_is_an_engine_by_the_protocol(case: Case) -> None:
    assert isinstance(case.engine, Engine)


async def test_closing_twice_is_closing_once(case: Case) -> None:
    await case.engine.ask(THREE)
    await case.engine.aclose()
    await case.engine.aclose()
