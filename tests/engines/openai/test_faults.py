"""Each way a server can misbehave: a right reply, or a failure of its kind."""

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest

from rlaif.engines import Generate, Label, Reply, Score, Usage
from rlaif.engines.openai.rejections import is_filtered
from rlaif.engines.traffic import retries
from rlaif.engines.traffic.outcomes import Rejected
from rlaif.errors import CallFailed, EngineMissing, EngineUnavailable
from tests.engines.asking import MESSAGES, ask_many, by_both_transports, engine_for, request
from tests.engines.faults import (
    Fault,
    error,
    malformed,
    payload,
    reset,
    serving,
    slow,
    too_many,
    truncated,
)

LABEL = Label(MESSAGES, ("A", "B"))


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BACKOFF_S", 0.01)


NETWORK: list[tuple[Fault, str]] = [
    (error(500), "http-500"),
    (reset(), "connection"),
    (slow(1.5), "timeout"),
    (malformed(), "bad-reply"),
    (truncated(), "bad-reply"),
]
CONTENT: list[tuple[Fault, str]] = [
    (error(502), "http-502"),
    (error(408), "http-408"),
    (payload([]), "bad-reply"),
    (payload({}), "bad-reply"),
    (payload({"choices": []}), "bad-reply"),
    (payload({"choices": [{"message": {"content": 7}}]}), "bad-reply"),
    (payload({"error": {"message": "upstream broke"}}), "error-in-reply"),
    (payload({"error": {"code": 502, "message": "upstream broke"}}), "error-in-reply"),
    (payload([{"error": {"code": 500, "message": "upstream broke"}}]), "error-in-reply"),
    (
        payload({"choices": [{"message": {"content": "brok"}, "finish_reason": "error"}]}),
        "error-in-reply",
    ),
    (
        payload({"choices": [{"message": {"content": "brok"}, "error": {"code": 502}}]}),
        "error-in-reply",
    ),
]
PASSING = [(*one, way) for one in NETWORK for way in ("sdk", "fast")]
PASSING += [(*one, "fast") for one in CONTENT]  # read by the same code, whatever carried them


def patience(kind: str) -> dict[str, float]:
    """Wait briefly where waiting is the point, and long enough for a busy machine elsewhere."""
    return {"timeout_s": 0.5} if kind == "timeout" else {}


@pytest.mark.parametrize(("fault", "kind", "way"), PASSING)
async def test_passing_trouble_is_tried_again(fault, kind, way):
    async with serving("vllm", fault, fault) as server:
        engine = engine_for(server, transport=way, max_attempts=3, **patience(kind))
        (reply,) = await engine.ask(request())
        assert reply.text.startswith("This is reply")
        assert len(server.chats()) == 3
        await engine.aclose()


@pytest.mark.parametrize(("fault", "kind", "way"), PASSING)
async def test_lasting_trouble_is_a_failure_of_its_kind(fault, kind, way):
    async with serving("vllm", *[fault] * 3) as server:
        engine = engine_for(server, transport=way, max_attempts=3, **patience(kind))
        with pytest.raises(CallFailed) as failed:
            await engine.ask(request())
        assert (failed.value.kind, failed.value.attempts) == (kind, 3)
        assert server.base_url in failed.value.message
        (reply,) = await engine.ask(request())
        assert reply.finish == "stop"
        await engine.aclose()


@by_both_transports
async def test_a_label_reply_without_log_probabilities_is_asked_for_once(transport):
    lacking = payload({"choices": [{"message": {"content": "A"}, "finish_reason": "length"}]})
    async with serving("plain", lacking) as server:
        engine = engine_for(server, transport=transport)
        with pytest.raises(CallFailed, match="words: true") as failed:
            await engine.ask(LABEL)
        assert (failed.value.kind, failed.value.attempts) == ("no-logprobs", 1)
        assert len(server.chats()) == 1
        await engine.aclose()


async def test_a_rate_limit_inside_a_200_waits_as_a_429_does():
    for inside in ({"code": 429, "message": "slow down"}, {"code": "rate_limit_exceeded"}):
        async with serving("plain", payload({"error": inside})) as server:
            engine = engine_for(server, transport="fast", max_attempts=1)
            (reply,) = await engine.ask(request())
            assert reply.text.startswith("This is reply")
            (stats,) = engine.stats()
            assert (stats.throttled, stats.requests) == (1, 2)
            await engine.aclose()


async def test_what_is_paid_for_and_cannot_be_used_is_told_once():
    usage = {"prompt_tokens": 40, "completion_tokens": 2}
    lacking = payload(
        {"choices": [{"message": {"content": "A"}, "finish_reason": "length"}], "usage": usage}
    )
    empty = payload({"choices": [], "usage": usage})
    async with serving("plain", lacking, empty) as server:
        engine = engine_for(server, transport="fast")
        with pytest.raises(CallFailed):
            await engine.ask(LABEL)
        assert engine.take_wasted() == Usage(40, 2)
        await engine.ask(request())
        assert engine.take_wasted() == Usage(40, 2)
        assert engine.take_wasted() is None
        await engine.aclose()


@pytest.mark.parametrize("code", [429, 400])
async def test_an_error_inside_a_paid_reply_is_booked_whatever_it_means(code):
    choice = {"error": {"code": code, "message": "cut off"}, "finish_reason": "error"}
    broken = payload({"choices": [choice], "usage": {"prompt_tokens": 40, "completion_tokens": 2}})
    async with serving("plain", broken) as server:
        engine = engine_for(server, transport="fast")
        with contextlib.suppress(CallFailed):
            await engine.ask(request())
        assert engine.take_wasted() == Usage(40, 2)
        await engine.aclose()


@pytest.mark.parametrize(
    ("words", "filtered"),
    [
        ("Unknown parameter: content_filter", False),
        ("Extra inputs are not permitted: content_filter", False),
        ("This request violates your organization's data policy for model x", False),
        ("Your prompt may contain text that violates our policy", True),
        ("Your request was rejected as it violates our usage policies.", True),
        ("The response was filtered by Azure OpenAI's content management policy.", True),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_refusal_of_the_prompt_is_told_from_one_of_a_field_or_an_account(words, filtered, status):
    assert is_filtered(Rejected(status, words, "")) is filtered


REFUSALS = [
    (error(400, "This model's maximum context length is 4096 tokens"), "context-length"),
    (error(400, "too long", code="context_length_exceeded"), "context-length"),
    (error(400, "temperature must be positive"), "http-400"),
    (error(422, "n must be an integer"), "http-422"),
    (error(418, "a teapot"), "http-418"),
]


@pytest.mark.parametrize(("fault", "kind"), REFUSALS)
@by_both_transports
async def test_what_the_server_will_not_do_fails_at_once(transport, fault, kind):
    async with serving("vllm", fault) as server:
        engine = engine_for(server, transport=transport)
        with pytest.raises(CallFailed) as failed:
            await engine.ask(request())
        assert (failed.value.kind, failed.value.attempts) == (kind, 1)
        assert fault.payload["error"]["message"] in failed.value.message
        assert len(server.chats()) == 1
        await engine.aclose()


@by_both_transports
async def test_a_redirect_is_not_followed(transport):
    async with serving("vllm", error(307, location="http://127.0.0.1:9/v1")) as server:
        engine = engine_for(server, transport=transport)
        with pytest.raises(EngineMissing, match="redirects"):
            await engine.ask(request())
        await engine.aclose()


@pytest.mark.parametrize(
    ("fault", "words"),
    [(error(401, "revoked"), "key any more.*revoked"), (error(307, location="/v2"), "redirects")],
)
@by_both_transports
async def test_what_stops_the_run_after_a_success_can_be_resumed(transport, fault, words):
    async with serving("vllm", None, fault) as server:
        engine = engine_for(server, transport=transport)
        await engine.ask(request())
        with pytest.raises(EngineUnavailable, match=words):
            await engine.ask(request())
        await engine.aclose()


async def test_a_key_revoked_after_a_score_stops_a_run_that_can_be_resumed():
    async with serving("vllm") as server:
        engine = engine_for(server, score="vllm")
        await engine.ask(Score(MESSAGES, "Tea."))
        server.key = "another"
        with pytest.raises(EngineUnavailable, match="any more"):
            await engine.ask(Score(MESSAGES, "Tea."))
        await engine.aclose()


@by_both_transports
async def test_an_empty_account_stops_the_run_and_can_be_resumed(transport):
    async with serving("vllm", error(429, "no money", code="insufficient_quota")) as server:
        engine = engine_for(server, transport=transport)
        with pytest.raises(EngineUnavailable, match="no money"):
            await engine.ask(request())
        await engine.aclose()


@by_both_transports
async def test_a_403_for_one_row_among_good_ones_fails_that_row_alone(transport):
    async with serving("vllm", None, error(403, "not this one")) as server:
        engine = engine_for(server, transport=transport)
        await engine.ask(request(1))
        with pytest.raises(CallFailed) as failed:
            await engine.ask(request(2))
        assert failed.value.kind == "http-403"
        await engine.aclose()


@by_both_transports
async def test_retry_after_is_waited_for_and_spends_no_attempt(transport):
    async with serving("vllm", too_many("0.4"), too_many("0.4")) as server:
        engine = engine_for(server, transport=transport, max_attempts=1)
        (reply,) = await engine.ask(request())
        assert reply.finish == "stop"
        first, second, third = [seen.at for seen in server.chats()]
        assert second - first >= 0.4
        assert third - second >= 0.4
        await engine.aclose()


@by_both_transports
async def test_the_milliseconds_header_is_waited_for(transport):
    async with serving("vllm", error(429, "wait", retry_after_ms="300")) as server:
        engine = engine_for(server, transport=transport, max_attempts=1)
        await engine.ask(request())
        first, second = [seen.at for seen in server.chats()]
        assert second - first >= 0.3
        await engine.aclose()


async def test_nobody_asks_while_the_server_wants_quiet():
    async with serving("vllm", too_many("0.5")) as server:
        engine = engine_for(server, transport="fast")
        refused = asyncio.create_task(ask_many(engine, 1))
        while not (engine.stats() and engine.stats()[0].throttled):
            await asyncio.sleep(0.001)
        others = await ask_many(engine, 30)
        assert all(isinstance(one, Reply) for one in [*others, *await refused])
        first, *later = [seen.at for seen in server.chats()]
        assert len(later) == 31
        assert min(later) - first >= 0.5
        await engine.aclose()


@by_both_transports
async def test_a_503_without_a_time_is_delayed_and_spends_no_attempt(transport):
    async with serving("vllm", *[error(503, "queue full")] * 4) as server:
        engine = engine_for(server, transport=transport, max_attempts=1)
        (reply,) = await engine.ask(request())
        assert reply.finish == "stop"
        (stats,) = engine.stats()
        assert (stats.requests, stats.throttled, stats.retries, stats.succeeded) == (5, 4, 4, 1)
        await engine.aclose()


async def test_a_429_cuts_the_limit_once_per_episode():
    async with serving() as server:
        engine = engine_for(server, transport="fast", start_concurrency=100)
        server.latency = lambda: 0.02
        server.script.extend([too_many("0.05")] * 30)
        await ask_many(engine, 200)
        (stats,) = engine.stats()
        assert stats.throttled == 30
        assert stats.limit == 80
        await engine.aclose()


async def test_steady_429_stops_the_run_with_what_the_server_said():
    async with serving() as server:
        server.fault_of = lambda _body: too_many()
        engine = engine_for(server, transport="fast", max_throttle_s=0.5)
        begun = time.monotonic()
        with pytest.raises(EngineUnavailable, match="slow down") as stopped:
            await engine.ask(request())
        assert 0.5 <= time.monotonic() - begun < 20.0
        assert "max_throttle_s" in stopped.value.hint
        await engine.aclose()


async def test_samples_that_were_paid_for_are_booked_when_another_of_the_call_fails():
    asked = request()
    three = Generate(asked.messages, asked.sampling, (1, 2, 3))
    async with serving("plain") as server:
        server.fault_of = lambda body: error(400, "no") if body["seed"] == 1 else None
        engine = engine_for(server, transport="fast", supports_n=False)
        with pytest.raises(CallFailed):
            await engine.ask(three)
        server.fault_of = lambda _: None
        kept = [
            one.usage for seed in (2, 3) for one in await engine.ask(replace(asked, seeds=(seed,)))
        ]
        wasted = engine.take_wasted()
        assert wasted is not None
        assert wasted.prompt_tokens == sum(one.prompt_tokens for one in kept)
        assert wasted.completion_tokens == sum(one.completion_tokens for one in kept)
        await engine.aclose()
