"""Calls through batches: gathered, submitted once, joined by content, however a batch ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rlaif.engines import Generate, Label, Reply, Sampling, Usage
from rlaif.engines.openai.engine import OpenAIEngine, build_openai_engine
from rlaif.engines.traffic import retries
from rlaif.errors import (
    CallFailed,
    ConfigError,
    EngineMissing,
    EngineUnavailable,
    RlaifError,
)
from rlaif.records import content_id
from tests.engines.asking import MESSAGES
from tests.engines.batch_server import BatchServer, serving_batches
from tests.engines.faults import error, payload


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BACKOFF_S", 0.01)


@pytest.fixture
async def server() -> AsyncIterator[BatchServer]:
    async with serving_batches() as one:
        yield one


def batched(
    server: BatchServer, folder: Path | None = None, *, options: Any = None, **batch: Any
) -> OpenAIEngine:
    batch = {"quiet_s": 0.1, "poll_s": 0.01, "max_poll_s": 0.02, **batch}
    engine = build_openai_engine(
        model="test-model",
        base_url=server.base_url,
        options={"transport": "batch", "batch": batch, **(options or {})},
    )
    if folder is not None:
        engine.keep_state(folder)
    return engine


def asked(number: int, *, n: int = 1) -> Generate:
    messages = ({"role": "user", "content": f"Say {number}."},)
    seeds = tuple(range(number, number + n))
    return Generate(messages, Sampling(), seeds)  # type: ignore[arg-type]


async def ask_all(engine: OpenAIEngine, count: int) -> list[Reply | RlaifError]:
    async def one(number: int) -> Reply | RlaifError:
        try:
            return (await engine.ask(asked(number)))[0]
        except RlaifError as problem:
            return problem

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(count)]
    return [task.result() for task in tasks]


async def plainly(server: BatchServer, count: int) -> list[Reply | RlaifError]:
    engine = build_openai_engine(
        model="test-model", base_url=server.base_url, options={"transport": "fast"}
    )
    replies = await ask_all(engine, count)
    await engine.aclose()
    return replies


async def test_many_calls_are_one_batch_and_give_the_replies_of_single_calls(server):
    engine = batched(server)
    replies = await ask_all(engine, 30)
    await engine.aclose()
    assert replies == await plainly(server, 30)
    assert [len(made.ids) for made in server.batches] == [30]
    assert set(server.paid.values()) == {1}


async def test_samples_and_labels_go_through_batches_too(server):
    engine = batched(server)
    label = Label(MESSAGES, ("A", "B"))
    async with asyncio.TaskGroup() as group:
        many = group.create_task(engine.ask(asked(1, n=3)))
        labelled = group.create_task(engine.ask(label))
    assert len({reply.text for reply in many.result()}) == 3
    (reply,) = labelled.result()
    assert None not in reply.label_logprobs
    assert len(server.batches) == 1
    await engine.aclose()


async def test_a_label_without_log_probabilities_is_asked_once_and_what_it_cost_is_told(server):
    choice = {"message": {"content": "A"}, "finish_reason": "length"}
    usage = {"prompt_tokens": 40, "completion_tokens": 1}
    server.fault_of = lambda _: payload({"choices": [choice], "usage": usage})
    engine = batched(server)
    with pytest.raises(CallFailed) as failed:
        await engine.ask(Label(MESSAGES, ("A", "B")))
    assert (failed.value.kind, failed.value.attempts) == ("no-logprobs", 1)
    assert len(server.batches) == 1
    assert engine.take_wasted() == Usage(40, 1)
    await engine.aclose()


async def test_calls_that_differ_in_nothing_but_the_seed_are_two_requests(server):
    # A server without seeds draws anew for each, and is asked for each.
    engine = batched(server, options={"supports_seed": False, "supports_n": False})
    await engine.ask(asked(1, n=3))
    assert [len(made.ids) for made in server.batches] == [3]
    await engine.aclose()


async def test_a_full_batch_goes_at_once_and_the_rest_after_a_quiet_time(server):
    engine = batched(server, max_requests=4)
    await ask_all(engine, 10)
    assert [len(made.ids) for made in server.batches] == [4, 4, 2]
    await engine.aclose()


async def test_a_batch_is_no_larger_than_its_bytes_allow(server):
    engine = batched(server, max_bytes=1000)
    await ask_all(engine, 10)
    sizes = [len(data) for data in server.files.values() if b'"method"' in data]
    assert len(sizes) > 2
    assert max(sizes) <= 1000
    await engine.aclose()


async def test_a_trickle_of_calls_is_sent_after_the_longest_wait(server):
    engine = batched(server, quiet_s=30.0, max_wait_s=0.2)
    assert isinstance((await ask_all(engine, 3))[0], Reply)
    await engine.aclose()


async def test_a_batch_costs_half_and_is_named_for_its_run(server, tmp_path: Path):
    price = {"input_per_million": 2.0, "output_per_million": 4.0}
    engine = batched(server, tmp_path / "demo" / "batches", options={"price": price})
    await ask_all(engine, 1)
    assert engine.price(Usage(1_000_000, 500_000)) == pytest.approx((2.0 + 2.0) / 2)
    (made,) = server.batches
    assert made.metadata["rlaif_run"] == "demo"
    await engine.aclose()


async def test_of_an_expired_batch_the_finished_part_is_used_and_the_rest_sent_again(server):
    server.endings.extend(["expired", "expired"])
    engine = batched(server)
    replies = await ask_all(engine, 20)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert [len(made.ids) for made in server.batches] == [20, 10, 5]
    assert set(server.paid.values()) == {1}
    await engine.aclose()


async def test_a_request_that_no_batch_begins_stops_the_run_and_is_no_failed_row(server):
    server.left_share = 1.0
    server.endings.extend(["expired"] * 3)
    engine = batched(server, options={"max_attempts": 3})
    (problem,) = await ask_all(engine, 1)
    assert isinstance(problem, EngineUnavailable)
    assert "3 batches" in problem.message
    await engine.aclose()


async def test_trouble_with_a_request_sends_it_again_and_refusals_fail_it_alone(server):
    seen: set[str] = set()

    def misbehave(body: dict[str, Any]) -> Any:
        text = body["messages"][0]["content"]
        first = text not in seen
        seen.add(text)
        return {
            "Say 3.": error(500) if first else None,
            "Say 4.": error(429, "slow down") if first else None,
            "Say 5.": payload({"choices": []}) if first else None,
            "Say 6.": error(400, "maximum context length is 20 tokens"),
            "Say 7.": error(400, "flagged", code="content_filter"),
        }.get(text)

    server.fault_of = misbehave
    engine = batched(server)
    replies = await ask_all(engine, 10)
    assert [len(made.ids) for made in server.batches] == [10, 3]
    assert isinstance(replies[6], CallFailed)
    assert replies[6].kind == "context-length"
    assert isinstance(replies[7], Reply)
    assert replies[7].finish == "refusal"
    others = [one for number, one in enumerate(replies) if number not in (6, 7)]
    assert all(isinstance(one, Reply) and one.finish == "stop" for one in others)
    await engine.aclose()


async def test_lasting_trouble_with_a_request_is_its_failure(server):
    server.fault_of = lambda body: error(500) if "Say 2." in str(body) else None
    engine = batched(server, options={"max_attempts": 2})
    replies = await ask_all(engine, 4)
    assert isinstance(replies[2], CallFailed)
    assert (replies[2].kind, replies[2].attempts) == ("http-500", 2)
    assert sum(isinstance(one, Reply) for one in replies) == 3
    await engine.aclose()


async def test_a_cancelled_batch_stops_the_run_and_its_finished_part_is_kept(
    server, tmp_path: Path
):
    server.endings.append("cancelled")
    engine = batched(server, tmp_path)
    replies = await ask_all(engine, 10)
    await engine.aclose()
    stopped = [one for one in replies if isinstance(one, EngineUnavailable)]
    assert len(stopped) == 5
    assert "batch_0 was cancelled with 5 of 10" in stopped[0].message
    again = batched(server, tmp_path)
    assert all(isinstance(one, Reply) for one in await ask_all(again, 10))
    assert [len(made.ids) for made in server.batches] == [10, 5]
    assert set(server.paid.values()) == {1}
    await again.aclose()


async def test_a_failed_batch_stops_the_run_with_the_words_of_the_server(server, tmp_path: Path):
    server.endings.append("failed")
    engine = batched(server, tmp_path)
    for problem in await ask_all(engine, 3):
        assert isinstance(problem, EngineUnavailable)
        assert "The account has reached its limit." in problem.message
        assert "nothing of this batch was run" in problem.hint
    await engine.aclose()
    again = batched(server, tmp_path)
    assert all(isinstance(one, Reply) for one in await ask_all(again, 3))
    await again.aclose()


async def test_a_request_that_makes_its_batch_fail_fails_alone(server):
    server.endings.append("bad-line")
    engine = batched(server)
    replies = await ask_all(engine, 5)
    failed = [one for one in replies if isinstance(one, CallFailed)]
    assert len(failed) == 1
    assert "The request is no request." in failed[0].message
    assert [len(made.ids) for made in server.batches] == [5, 4]
    await engine.aclose()


async def test_a_batch_for_which_there_is_no_room_waits_for_the_others(server):
    def let_them_end(_: Any) -> None:
        if len(server.batches) == 2:
            server.looks_needed = 2

    server.looks_needed, server.on_create = 10**9, let_them_end  # both are under way before
    server.endings.extend(["completed", "no-room"])
    engine = batched(server, max_requests=5)
    replies = await ask_all(engine, 10)
    assert all(isinstance(one, Reply) for one in replies)
    assert len(server.batches) == 3
    await engine.aclose()


async def test_a_batch_for_which_there_is_never_room_says_how_to_make_it_smaller(server):
    server.endings.append("no-room")
    engine = batched(server)
    (problem, *_) = await ask_all(engine, 4)
    assert isinstance(problem, EngineUnavailable)
    assert "a batch of 4 requests; lower batch.max_requests" in problem.message
    await engine.aclose()


async def test_a_batch_whose_creation_got_no_reply_is_not_created_twice(server):
    server.lost_replies = 1
    engine = batched(server)
    assert all(isinstance(one, Reply) for one in await ask_all(engine, 5))
    assert len(server.batches) == 1
    await engine.aclose()


async def start_and_leave(server: BatchServer, folder: Path, count: int) -> None:
    """Ask, and stop as a killed process would, as soon as a batch is at the server."""
    server.looks_needed = 10**9
    engine = batched(server, folder)
    asking = asyncio.create_task(ask_all(engine, count))
    while not server.batches or not any(made.looks for made in server.batches):
        await asyncio.sleep(0.005)
    asking.cancel()
    await asyncio.wait([asking])
    await engine.aclose()
    server.looks_needed = 2


async def test_what_an_earlier_process_submitted_is_waited_for_and_not_paid_again(
    server, tmp_path: Path
):
    await start_and_leave(server, tmp_path, 12)
    engine = batched(server, tmp_path)
    replies = await ask_all(engine, 15)  # three of them are new
    assert all(isinstance(one, Reply) for one in replies)
    assert [len(made.ids) for made in server.batches] == [12, 3]
    assert set(server.paid.values()) == {1}
    await engine.aclose()
    assert replies == await plainly(server, 15)


async def test_a_batch_whose_id_was_never_written_is_found_by_its_name(server, tmp_path: Path):
    await start_and_leave(server, tmp_path, 6)
    (state,) = tmp_path.glob("*/state.json")
    state.write_text(json.dumps({"file_id": "file-0", "created": server.batches[0].created}))
    for _ in range(3):  # more pages of other people's batches
        server.batches.append(
            server.batches[0].__class__(
                f"batch_other{len(server.batches)}", {}, [], "completed", server.batches[0].created
            )
        )
    engine = batched(server, tmp_path)
    assert all(isinstance(one, Reply) for one in await ask_all(engine, 6))
    assert server.counts["/v1/batches"] == 1
    assert server.counts["list"] == 2
    await engine.aclose()


async def test_an_upload_without_a_batch_is_forgotten_and_asked_anew(server, tmp_path: Path):
    await start_and_leave(server, tmp_path, 6)
    (state,) = tmp_path.glob("*/state.json")
    state.write_text(json.dumps({"file_id": "file-0", "created": server.batches[0].created}))
    server.batches.clear()
    engine = batched(server, tmp_path)
    assert all(isinstance(one, Reply) for one in await ask_all(engine, 6))
    assert len(server.batches) == 1
    await engine.aclose()


async def test_without_a_list_nobody_guesses_whether_a_batch_was_submitted(server, tmp_path: Path):
    await start_and_leave(server, tmp_path, 6)
    (state,) = tmp_path.glob("*/state.json")
    state.write_text('{"file_id": "file-0", "created": 0}')
    server.has_list = False
    engine = batched(server, tmp_path)
    (problem, *_) = await ask_all(engine, 6)
    assert isinstance(problem, EngineUnavailable)
    assert str(state.parent) in problem.hint
    assert server.counts["/v1/batches"] == 1
    await engine.aclose()


async def test_fetched_results_are_used_by_the_next_process_and_forgotten_when_settled(
    server, tmp_path: Path
):
    engine = batched(server, tmp_path)
    before = await ask_all(engine, 5)
    await engine.aclose()  # killed before the ledger had them on the disk
    again = batched(server, tmp_path)
    assert await ask_all(again, 5) == before
    assert len(server.batches) == 1
    assert list(tmp_path.iterdir())
    again.settle()
    assert not list(tmp_path.iterdir())
    await again.aclose()


async def test_a_run_with_open_batches_goes_on_with_batches(server, tmp_path: Path):
    await start_and_leave(server, tmp_path, 3)
    plain = build_openai_engine(
        model="test-model", base_url=server.base_url, options={"transport": "fast"}
    )
    with pytest.raises(ConfigError, match="were paid for") as refused:
        plain.keep_state(tmp_path)
    assert "transport: batch" in refused.value.hint
    other = build_openai_engine(
        model="other", base_url=server.base_url, options={"transport": "fast"}
    )
    other.keep_state(tmp_path)


async def test_a_lost_batch_is_not_asked_again_behind_the_back_of_its_owner(server, tmp_path: Path):
    await start_and_leave(server, tmp_path, 3)
    server.batches.clear()
    engine = batched(server, tmp_path)
    (problem, *_) = await ask_all(engine, 3)
    assert isinstance(problem, EngineUnavailable)
    assert "delete" in problem.hint
    (later, *_) = await ask_all(engine, 1)
    assert isinstance(later, EngineUnavailable)
    assert not server.batches
    await engine.aclose()


async def test_a_server_without_files_is_one_clear_error():
    async with serving_batches(has_files=False) as server:
        engine = batched(server)
        (problem, *_) = await ask_all(engine, 2)
        assert isinstance(problem, EngineMissing)
        assert "does not accept file uploads" in problem.message
        assert "sdk or fast" in problem.hint
        await engine.aclose()


async def test_a_wrong_key_is_one_clear_error(server):
    server.key = "right"
    engine = batched(server)
    (problem, *_) = await ask_all(engine, 2)
    assert isinstance(problem, EngineMissing)
    assert "does not accept the key" in problem.message
    await engine.aclose()


async def test_pending_says_what_is_gathered_and_what_is_under_way(server):
    engine = batched(server)
    assert engine.pending() == ""
    server.looks_needed = 10**9
    asking = asyncio.create_task(ask_all(engine, 7))
    while engine.pending() != "7 gathered":
        await asyncio.sleep(0.001)
    while engine.pending() != "1 batches, 0 of 7 done":
        await asyncio.sleep(0.001)
    server.looks_needed = 0
    await asking
    assert engine.pending() == ""
    await engine.aclose()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transport": "sdk", "batch": {"quiet_s": 1}}, "without transport: batch"),
        ({"base_urls": ["http://a/v1", "http://b/v1"]}, "goes to one server"),
        ({"score": "vllm"}, "can neither score"),
        ({"labels": "logprob_token_ids"}, "exact labels"),
        ({"batch": {"max_request": 5}}, "max_requests"),
    ],
)
def test_what_batches_cannot_do_is_refused(options: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        build_openai_engine(model="m", options={"transport": "batch", **options})


async def test_a_call_has_the_same_id_before_and_after_a_lesson(server, tmp_path: Path):
    plain = batched(server, tmp_path)
    taught = batched(server, tmp_path)
    taught._dialect.note("seed", "omitted", "")
    ids = set()
    for engine in (plain, taught):
        asking = asyncio.create_task(engine.ask(asked(1)))
        await asyncio.sleep(0.05)
        assert engine._batches is not None
        ids |= set(engine._batches._waiting)
        asking.cancel()
        await asyncio.wait([asking])
        await engine.aclose()
    assert len(ids) == 1


async def test_a_batch_named_by_what_was_sent_is_still_recognised(server, tmp_path: Path):
    engine = batched(server, tmp_path)
    client = engine._batches
    assert client is not None
    body = {"messages": [], "seed": 1}
    old = content_id("batch", {"messages": []}, [1])
    client._sent.add(old)
    assert client._id_of(body, {"messages": []}, [1]) == old
    client._sent.add(content_id("batch", body, [1]))
    assert client._id_of(body, {"messages": []}, [1]) != old
    await engine.aclose()
