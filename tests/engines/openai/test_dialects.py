"""Every dialect: what a server refuses costs one call, or is an error that names the option."""

import asyncio
import json
import time
from typing import Any

import pytest

from rlaif.engines import Generate, Label, Reply, Request, Sampling
from rlaif.engines.openai import chat
from rlaif.engines.openai.engine import OpenAIEngine, build_openai_engine
from rlaif.engines.traffic import retries
from rlaif.engines.traffic.transport import Answer
from rlaif.errors import CallFailed, EngineError, EngineMissing
from rlaif.records import Message
from tests.engines.dialects import DIALECTS, Dialect, forbidden, having, plain_letter, unknown_name
from tests.engines.faults import Fault, FaultServer, error, payload, serving

SYSTEM: Message = {"role": "system", "content": "You are brief."}
USER: tuple[Message, ...] = ({"role": "user", "content": "Tea or coffee?"},)


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "BACKOFF_S", 0.01)


def engine_for(server: FaultServer, **options: Any) -> OpenAIEngine:
    options.setdefault("transport", "fast")
    return build_openai_engine(model="test-model", base_url=server.base_url, options=options)


def request_of(kind: str, number: int) -> Request:
    messages: tuple[Message, ...] = (
        SYSTEM,
        {"role": "user", "content": f"Question {number}: tea or coffee?"},
    )
    match kind:
        case "samples":
            sampling = Sampling(temperature=0.7, stop=("\n\n\n",))
            return Generate(messages, sampling, (number, number + 1))
        case "label":
            return Label(messages, ("A", "B"))
        case _:
            return Generate(messages, Sampling(temperature=0.0), (0,), choices=("A", "B"))


async def ask_300(engine: OpenAIEngine, kind: str) -> list[list[Reply] | EngineError]:
    async def one(number: int) -> list[Reply] | EngineError:
        try:
            return list(await engine.ask(request_of(kind, number)))
        except EngineError as problem:
            return problem

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(300)]
    return [task.result() for task in tasks]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
async def test_300_prompts_are_answered_after_at_most_three_more_calls(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chat, "PILOT_S", 60.0)
    async with serving("plain") as server:
        server.fault_of = dialect.refuse
        engine = engine_for(server, **dialect.options)
        before = dict(engine.identity)
        answers = await ask_300(engine, dialect.kind)
        if dialect.option:
            assert all(isinstance(one, EngineError) for one in answers)
            assert {dialect.option in str(one) for one in answers} == {True}
        else:
            assert not [one for one in answers if isinstance(one, EngineError)]
            assert engine.learned == dialect.learned
            asked = 600 if "n" in dialect.learned else 300
            assert len(server.chats()) - asked <= 3
            json.dumps(dict(engine.learned))  # goes into the manifest
        assert engine.identity == before
        await engine.aclose()


async def test_with_the_option_that_the_error_names_the_calls_work():
    by_name = {dialect.name: dialect for dialect in DIALECTS}
    for name, omit in (("openai-temperature", "temperature"), ("anthropic-top_p", "top_p")):
        async with serving("plain") as server:
            server.fault_of = by_name[name].refuse
            engine = engine_for(server, omit=[omit])
            assert len(await engine.ask(request_of("samples", 1))) == 2
            assert engine.learned == {}
            await engine.aclose()


async def test_a_refusal_of_log_probabilities_is_said_before_anything_else_is_asked():
    async with serving("plain") as server:
        server.fault_of = having("logprobs", lambda _: error(400, "logprobs is not supported"))
        engine = engine_for(server)
        with pytest.raises(EngineMissing, match="words: true"):
            await engine.ask(request_of("label", 1))
        assert len(server.chats()) == 1
        await engine.aclose()


async def test_a_slow_first_call_holds_the_others_up_for_a_moment_only(monkeypatch):
    monkeypatch.setattr(chat, "PILOT_S", 0.05)
    async with serving("plain") as server:
        latencies = iter([1.0])
        server.latency = lambda: next(latencies, 0.0)
        engine = engine_for(server)
        first = asyncio.create_task(engine.ask(request_of("samples", 1)))
        await asyncio.sleep(0.02)
        await asyncio.wait_for(engine.ask(request_of("samples", 2)), 0.7)
        assert not first.done()
        await first
        await engine.aclose()


async def test_a_process_that_stands_still_does_not_end_the_wait_for_the_first_call(monkeypatch):
    monkeypatch.setattr(chat, "PILOT_S", 1.6)
    async with serving("plain") as server:
        server.latency = lambda: 0.3
        server.fault_of = having("seed", lambda _: forbidden("seed", 1))
        engine = engine_for(server)
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(engine.ask(request_of("choice", number)))
            await asyncio.sleep(0.1)
            time.sleep(1.8)  # the whole process stands still
        assert len(server.chats()) == 21
        await engine.aclose()


async def test_a_stop_that_the_server_does_not_take_is_cut_here():
    async with serving("plain") as server:
        engine = engine_for(server)
        request = Generate(({"role": "user", "content": "Hi"},), Sampling(stop=(" to",)), (5,))
        (with_stop,) = await engine.ask(request)
        server.fault_of = having("stop", lambda _: error(400, "stop is not supported: 'stop'"))
        other = engine_for(server)
        (without,) = await other.ask(request)
        assert (without.text, without.finish) == (with_stop.text, "stop")
        await engine.aclose()
        await other.aclose()


async def test_a_reply_that_ignores_its_format_is_read_as_it_is():
    async with serving("plain") as server:
        server.fault_of = having("response_format", plain_letter)
        engine = engine_for(server)
        (reply,) = await engine.ask(request_of("choice", 1))
        assert reply.text == "A"
        assert len(server.chats()) == 1
        await engine.aclose()


@pytest.mark.parametrize("failures", [1, 2, 4])
async def test_passing_500s_do_not_take_the_format_away(failures):
    async with serving("plain", *[error(500)] * failures) as server:
        engine = engine_for(server)
        await engine.ask(request_of("choice", 1))
        assert engine.learned == {}
        assert "response_format" in server.chats()[-1].body
        wasted = engine.take_wasted()
        assert (wasted is None) == (failures == 1)  # else one reply without it was paid for
        await engine.ask(request_of("choice", 2))
        assert "response_format" in server.chats()[-1].body
        await engine.aclose()


@pytest.mark.parametrize(("most", "sent"), [(1, 1), (2, 2), (4, 4)])
async def test_a_first_call_with_a_format_is_tried_as_often_as_any_other(most, sent):
    async with serving("plain") as server:
        server.fault_of = lambda _: payload({"choices": []})
        engine = engine_for(server, max_attempts=most)
        with pytest.raises(CallFailed, match="no choices"):
            await engine.ask(request_of("choice", 1))
        assert len(server.chats()) == sent
        await engine.aclose()


async def test_a_refusal_that_echoes_the_prompt_is_judged_by_its_own_words():
    words = "Was this blocked by the moderation system, or flagged as content_filter?"
    for status, body in (
        (422, {"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs", "input": words}]}),
        (400, {"error": {"message": f"unknown field top_k in request: {words}"}}),
    ):
        async with serving("plain") as server:
            fault = Fault("status", status, payload=body)
            server.script.extend([fault] * 2)
            engine = engine_for(server)
            with pytest.raises(CallFailed) as failed:
                await engine.ask(Generate(({"role": "user", "content": words},), Sampling(), (1,)))
            assert failed.value.kind == f"http-{status}"
            await engine.aclose()


async def test_a_refused_seed_with_a_prompt_about_moderation_is_no_refusal_of_the_prompt():
    async with serving("plain") as server:
        server.fault_of = having("seed", lambda _: forbidden("seed", "moderation"))
        engine = engine_for(server)
        request = Generate(({"role": "user", "content": "moderation"},), Sampling(), (1,))
        (reply,) = await engine.ask(request)
        assert reply.finish == "stop"
        assert engine.learned == {"seed": "omitted"}
        await engine.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        error(400, "the request exceeds the available context size. try increasing it"),
        error(400, "no words", code="exceed_context_size_error"),
        error(500, "the request exceeds the available context size", code="500"),
        error(400, "Requested tokens (2285) exceed context window of 2048"),
        error(
            400,
            "The input token count (1200000) exceeds the maximum number of tokens allowed (99).",
        ),
        error(
            422,
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: "
            "5000 `inputs` tokens and 20 `max_new_tokens`",
        ),
        error(400, "prompt is too long: 210000 tokens > 200000 maximum"),
        error(400, "Please reduce the length of the messages or completion."),
        error(400, "litellm.ContextWindowExceededError: too much", code="400"),
        error(400, "This model's maximum prompt length is 131072 but the request contains more."),
    ],
)
async def test_a_prompt_too_long_is_told_from_all_else(fault):
    async with serving("plain", fault) as server:
        engine = engine_for(server)
        with pytest.raises(CallFailed) as failed:
            await engine.ask(request_of("samples", 1))
        assert failed.value.kind == "context-length"
        assert len(server.chats()) == 1
        await engine.aclose()


async def test_errors_in_lists_and_in_text_are_shown_as_sentences():
    cases = {
        'Unknown name "top_k": Cannot find field.': unknown_name("top_k"),
        "top_k: Extra inputs are not permitted": forbidden("top_k", 5),
    }
    for words, fault in cases.items():
        async with serving("plain", fault) as server:
            engine = engine_for(server)
            with pytest.raises(CallFailed) as failed:
                await engine.ask(Generate((SYSTEM,), Sampling(), (1,)))
            assert words in failed.value.message
            assert "{" not in failed.value.message
            await engine.aclose()


async def test_system_text_is_folded_where_the_options_say_so():
    async with serving("plain") as server:
        engine = engine_for(server, system="fold")
        await engine.ask(request_of("samples", 1))
        (message,) = server.chats()[0].body["messages"]
        assert message["role"] == "user"
        assert message["content"].startswith("You are brief.\n\nQuestion 1")
        assert engine.identity["system"] == "fold"
        await engine.aclose()


async def test_fields_are_renamed_and_left_out():
    async with serving("plain") as server:
        engine = engine_for(server, rename={"seed": "random_seed"}, omit=["top_p"])
        await engine.ask(request_of("samples", 7))
        body = server.chats()[0].body
        assert body["random_seed"] == 7
        assert not {"seed", "top_p"} & body.keys()
        await engine.aclose()


async def test_llama_cpp_is_asked_for_more_candidates_than_others():
    async with serving("plain") as server:
        server.owner = "llamacpp"
        engine = engine_for(server)
        before = dict(engine.identity)
        await engine.ask(request_of("label", 1))
        assert server.chats()[0].body["top_logprobs"] == 200
        assert engine.identity == before
        await engine.aclose()


async def test_half_a_surrogate_pair_in_one_sample_leaves_the_others():
    text = json.dumps(
        {
            "choices": [
                {"index": 0, "message": {"content": "half \ud83d here"}, "finish_reason": "stop"},
                {"index": 1, "message": {"content": "whole \U0001f600"}, "finish_reason": "stop"},
            ]
        }
    )
    async with serving("plain", payload(text.encode())) as server:
        engine = engine_for(server)
        first, second = await engine.ask(request_of("samples", 1))
        assert first.text == "half � here"
        assert second.text == "whole \U0001f600"
        await engine.aclose()


async def test_a_thinking_judge_gives_no_label():
    choice = {
        "message": {"content": "", "reasoning_content": "Okay"},
        "finish_reason": "length",
        "logprobs": {"content": [{"token": "Okay", "logprob": -0.1, "top_logprobs": []}]},
    }
    async with serving("plain", payload({"choices": [choice]})) as server:
        engine = engine_for(server)
        with pytest.raises(CallFailed, match="thinks") as failed:
            await engine.ask(request_of("label", 1))
        assert failed.value.kind == "thinking-judge"
        await engine.aclose()


@pytest.mark.parametrize(
    "words",
    [
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Unexpected role 'system' after role 'user'",
        "system message must not be empty",
    ],
)
async def test_one_bad_conversation_does_not_fold_the_system_text_of_the_others(words):
    empty: Message = {"role": "system", "content": ""}
    bad = (empty, *USER) if "empty" in words else (SYSTEM, *USER, *USER)

    def refuse(body: dict[str, Any]) -> Fault | None:
        roles = [one["role"] for one in body["messages"]]
        wrong = body["messages"][0] == empty or roles[-2:] == ["user", "user"]
        return error(400, words) if wrong else None

    async with serving("plain") as server:
        server.fault_of = refuse
        engine = engine_for(server)
        with pytest.raises(CallFailed):
            await engine.ask(Generate(bad, Sampling(), (1,)))
        await engine.ask(request_of("samples", 1))
        assert server.chats()[-1].body["messages"][0] == SYSTEM
        assert engine.learned == {}
        await engine.aclose()


async def test_one_bad_schema_does_not_take_the_format_from_the_others():
    words = "Invalid schema for response_format 'reply': 'oneOf' is not permitted"

    def refuse(body: dict[str, Any]) -> Fault | None:
        return error(400, words) if "oneOf" in str(body.get("response_format")) else None

    async with serving("plain") as server:
        server.fault_of = refuse
        engine = engine_for(server)
        schema = json.dumps({"type": "object", "properties": {"a": {"oneOf": []}}})
        with pytest.raises(CallFailed, match="oneOf"):
            await engine.ask(Generate(USER, Sampling(), (1,), schema=schema))
        await engine.ask(request_of("choice", 1))
        assert "response_format" in server.chats()[-1].body
        assert engine.learned == {}
        await engine.aclose()


@pytest.mark.parametrize("opened", ["<think>", "<thinking>", "[THINK]", "<|channel|>analysis\n"])
@pytest.mark.parametrize("shown", ["content", "token"])
@pytest.mark.parametrize("flavour", ["plain", "vllm"])
async def test_a_judge_whose_first_token_opens_its_thoughts_gives_no_label(opened, shown, flavour):
    def thinking(body: dict[str, Any]) -> Fault:
        answer = server.fake.answer(body)
        (choice,) = answer["choices"]
        choice["message"]["content"] = opened if shown == "content" else ""
        if shown == "token":
            choice["logprobs"]["content"][0]["token"] = opened
        return payload(answer)

    async with serving(flavour) as server:
        server.fault_of = thinking
        engine = engine_for(server)
        with pytest.raises(CallFailed, match="thinks") as failed:
            await engine.ask(request_of("label", 1))
        assert failed.value.kind == "thinking-judge"
        await engine.aclose()


async def test_a_complaint_about_one_prompt_teaches_nothing():
    for words in (
        "the system message is too long for this plan: at most 1000 characters",
        "Invalid 'messages[1].content': string too long",
        "max_tokens is too large: 9999. This model supports at most 4096 completion tokens",
    ):
        async with serving("plain", error(400, words)) as server:
            engine = engine_for(server)
            with pytest.raises(CallFailed, match="too l"):
                await engine.ask(Generate((SYSTEM, *USER), Sampling(), (1,)))
            assert engine.learned == {}
            assert len(server.chats()) == 1
            await engine.aclose()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stop", "Invalid 'stop': array too long. Expected an array with maximum length 4"),
        ("stop", "stop: at most 2 stop sequences are allowed"),
        ("seed", "seed must be less than or equal to 1000"),
        ("seed", "seed: value out of range"),
    ],
)
async def test_a_complaint_about_one_value_is_an_error_and_no_lesson(name: str, words: str):
    async with serving("plain") as server:
        server.script.append(error(400, words))
        engine = engine_for(server)
        with pytest.raises(CallFailed) as failed:
            await engine.ask(request_of("samples", 1))
        assert name in str(failed.value.hint)
        assert engine.learned == {}
        await engine.ask(request_of("samples", 2))
        assert name in server.chats()[-1].body
        await engine.aclose()


async def test_a_list_of_models_that_failed_once_is_asked_for_again(monkeypatch):
    async with serving("vllm") as server:
        engine = engine_for(server, max_attempts=1)
        transport, _ = engine._endpoint._opened()
        get, failures = transport.get, [1]

        async def sometimes(url: str, timeout_s: float) -> Answer:
            return (
                Answer(500, {}, b"{}") if failures and failures.pop() else await get(url, timeout_s)
            )

        monkeypatch.setattr(transport, "get", sometimes)
        await engine.ask(request_of("label", 1))
        await engine.ask(request_of("label", 2))
        last = [seen.body for seen in server.chats()]
        assert "top_logprobs" in last[0]
        assert "logprob_token_ids" in last[-1]
        await engine.aclose()


async def test_many_first_labels_at_once_know_what_llama_cpp_allows():
    async with serving("plain") as server:
        server.owner = "llamacpp"
        engine = engine_for(server)
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(engine.ask(request_of("label", number)))
        assert {seen.body["top_logprobs"] for seen in server.chats()} == {200}
        await engine.aclose()
