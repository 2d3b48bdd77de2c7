"""The Responses API: a chat completion's body to it, and its answer back."""

from typing import Any

import pytest
from aiohttp import web

from rlaif.engines import Generate, Label, Reply, Sampling, Usage
from rlaif.engines.openai import responses, wire
from rlaif.engines.openai.engine import build_openai_engine
from rlaif.engines.traffic.outcomes import BadReply
from rlaif.errors import ConfigError
from rlaif.records import Message
from tests.engines.faults import FaultServer

MESSAGES: tuple[Message, ...] = ({"role": "user", "content": "Tea?"},)


class ResponsesServer(FaultServer):
    """Answers /v1/responses and nothing else."""

    answer: dict[str, Any]

    def add_routes(self, app: Any) -> None:
        app.router.add_post("/v1/responses", self._respond)

    async def _respond(self, request: Any) -> Any:
        self._note(request, await request.read())
        return web.json_response(self.answer)


def answer_of(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    message = {"type": "message", "role": "assistant", "content": list(parts)}
    usage = {
        "input_tokens": 40,
        "output_tokens": 7,
        "input_tokens_details": {"cached_tokens": 30},
    }
    return {"status": "completed", "output": [message], "usage": usage, **more}


async def ask(answer: dict[str, Any], request: Any) -> tuple[list[Reply], dict[str, Any]]:
    server = ResponsesServer("plain")
    server.answer = answer
    await server.start()
    try:
        engine = build_openai_engine(
            model="test-model",
            base_url=server.base_url,
            options={"api": "responses", "transport": "fast"},
        )
        replies = list(await engine.ask(request))
        await engine.aclose()
        return replies, server.seen[-1].body
    finally:
        await server.stop()


async def test_text_and_tokens_come_back_and_what_the_api_lacks_is_not_sent():
    said = answer_of({"type": "output_text", "text": "Yes.\n\nNo."})
    request = Generate(MESSAGES, Sampling(stop=("\n\n",), max_tokens=99), (5,))
    replies, body = await ask(said, request)
    assert replies == [Reply("Yes.", "stop", usage=Usage(40, 7, 30))]  # the stop was cut here
    assert body == {
        "model": "test-model",
        "input": [{"role": "user", "content": "Tea?"}],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_output_tokens": 99,
        "store": False,
    }


async def test_several_samples_are_several_calls():
    said = answer_of({"type": "output_text", "text": "Yes."})
    replies, _ = await ask(said, Generate(MESSAGES, Sampling(), (5, 6, 7)))
    assert [reply.text for reply in replies] == ["Yes."] * 3


async def test_labels_are_read_where_the_api_gives_log_probabilities():
    top = [{"token": "A", "logprob": -0.5}, {"token": "B", "logprob": -1.5}]
    part = {
        "type": "output_text",
        "text": "A",
        "logprobs": [{"token": "A", "logprob": -0.5, "top_logprobs": top}],
    }
    (reply,), body = await ask(answer_of(part), Label(MESSAGES, ("A", "B")))
    assert reply.label_logprobs == (-0.5, -1.5)
    assert body["include"] == ["message.output_text.logprobs"]
    assert body["top_logprobs"] == 20
    assert body["max_output_tokens"] == 16  # the fewest that it takes


def test_reasoning_refusals_and_ends_are_told_apart():
    thought = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}
    chat = responses.chat_of({**answer_of({"type": "output_text", "text": "B"}), "output": [
        thought, *answer_of({"type": "output_text", "text": "B"})["output"]]})  # fmt: skip
    assert chat["choices"][0]["message"] == {"content": "B", "reasoning": "hm"}
    cut = answer_of(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert responses.chat_of(cut)["choices"][0]["finish_reason"] == "length"
    refused = answer_of({"type": "refusal", "refusal": "no"})
    assert responses.chat_of(refused)["choices"][0]["message"]["refusal"] == "no"
    failed = responses.chat_of(
        {"status": "failed", "output": [], "error": {"code": "server_error"}}
    )
    assert failed["choices"][0]["error"] == {"code": "server_error"}


def test_a_format_becomes_a_format_of_text():
    form = {"name": "reply", "schema": {"type": "object"}, "strict": True}
    body = responses.body_of(
        {"messages": [], "response_format": {"type": "json_schema", "json_schema": form}}
    )
    assert body["text"] == {"format": {"type": "json_schema", **form}}


@pytest.mark.parametrize("odd", [{}, {"output": "x"}, {"output": [1, {"content": [2]}]}])
def test_an_answer_of_another_shape_is_no_reply(odd: dict[str, Any]):
    chat = responses.chat_of(odd)
    try:
        replies = wire.read_generate(chat)
    except BadReply:
        return
    assert replies[0].text == ""


def test_batches_and_prefilled_replies_are_refused():
    for options in ({"transport": "batch"}, {"prefill": True}):
        with pytest.raises(ConfigError, match="api: responses"):
            build_openai_engine(
                model="m", base_url="http://127.0.0.1:1/v1", options={"api": "responses", **options}
            )


async def test_tools_and_their_calls_go_out_and_come_back_in_the_form_of_the_api():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    chat = {
        "messages": [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
        ],
        "tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
    }
    body = responses.body_of(chat)
    assert body["input"] == [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
    ]
    assert body["tools"] == [{"type": "function", "name": "add", "parameters": {}, "strict": False}]
    assert body["tool_choice"] == {"type": "function", "name": "add"}
    given = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
    (choice,) = responses.chat_of({"status": "completed", "output": [given]})["choices"]
    assert choice["message"]["tool_calls"] == [call]
    assert choice["finish_reason"] == "tool_calls"
