"""Bodies and readers, without a server."""

import contextlib
import json
import math
import random
import time
from copy import copy as copy_of
from typing import Any

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from rlaif.engines import Generate, Label, Reply, Sampling, Usage
from rlaif.engines.openai import label_replies, responses, vllm_extensions, wire
from rlaif.engines.traffic.explain import Explanation, explain, shorten, without_echo
from rlaif.engines.traffic.outcomes import (
    BadReply,
    Failed,
    Rejected,
    Success,
    Throttled,
    read_answer,
    read_retry_after,
)
from rlaif.engines.traffic.transport import Answer
from rlaif.records import Message, Prompt
from tests.records.test_tool_use import ASKED, CALL, WEATHER

MESSAGES: tuple[Message, ...] = ({"role": "user", "content": "Hello"},)


def reply_of(*texts: str, **more: Any) -> dict[str, Any]:
    choices = [
        {"index": index, "message": {"content": text}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    return {"choices": choices, **more}


def label_reply(*candidates: tuple[str, float]) -> dict[str, Any]:
    top = [{"token": token, "logprob": math.log(p)} for token, p in candidates]
    payload = reply_of(candidates[0][0])
    payload["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return payload


def generate(**changes: Any) -> dict[str, Any]:
    request = Generate(
        changes.pop("messages", MESSAGES),
        changes.pop("sampling", Sampling()),
        (7, 8),
        **changes,
    )
    return wire.generate_body(
        request, request.seeds, structured="response_format", max_tokens_field="max_tokens"
    )


def test_sampling_is_always_sent_in_full():
    assert generate() == {
        "messages": MESSAGES,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 256,
        "seed": 7,
    }


def test_extra_sampling_and_stops_are_sent():
    body = generate(sampling=Sampling(stop=("\n",), extra=(("min_p", 0.1),)))
    assert body["stop"] == ["\n"]
    assert body["min_p"] == 0.1


def test_a_stub_continues_the_last_message():
    body = generate(stub="Answer:")
    assert body["messages"][-1] == {"role": "assistant", "content": "Answer:"}
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False


def test_choices_become_an_object_with_an_enum_and_come_back_bare():
    body = generate(choices=("yes", "no"))
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["choice"]["enum"] == ["yes", "no"]
    replies = wire.read_generate(reply_of('{"choice": "no"}'), unwrap=True)
    assert replies[0].text == "no"


def test_a_reply_that_breaks_its_schema_is_left_as_it_is():
    for text in ("no", '{"choose": "no"}', '{"choice": 3}', "[]"):
        assert wire.read_generate(reply_of(text), unwrap=True)[0].text == text


def test_a_fenced_choice_is_taken_out_of_its_fence():
    (reply,) = wire.read_generate(reply_of('```json\n{"choice": "no"}\n```'), unwrap=True)
    assert reply.text == "no"


def test_a_choice_cut_off_by_length_is_kept_as_it_is():
    payload = reply_of('{"choi')
    payload["choices"][0]["finish_reason"] = "length"
    assert wire.read_generate(payload, unwrap=True)[0] == Reply('{"choi', "length")


def test_replies_come_in_index_order():
    payload = reply_of("a", "b", "c")
    payload["choices"].reverse()
    assert [one.text for one in wire.read_generate(payload, unwrap=False)] == ["a", "b", "c"]


def test_usage_of_a_call_is_shared_out_and_sums_to_what_was_billed():
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 64},
    }
    replies = wire.read_generate(reply_of("aaaa", "bb", "cccccc", usage=usage), unwrap=False)
    # 10 tokens over 4, 2 and 6 characters: cumulative 40//12, 60//12, 120//12 = 3, 5, 10.
    assert [one.usage for one in replies] == [
        Usage(100, 3, 64),
        Usage(0, 2, 0),
        Usage(0, 5, 0),
    ]


@pytest.mark.parametrize(
    ("finish", "shown"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "refusal"),
        ("tool_calls", "tool_calls"),
        (None, "unknown"),
    ],
)
def test_finish_reasons(finish: str | None, shown: str):
    payload = reply_of("x")
    payload["choices"][0]["finish_reason"] = finish
    assert wire.read_generate(payload, unwrap=False)[0].finish == shown


def test_a_refusal_in_the_message_is_a_refusal_with_its_words():
    payload = reply_of("")
    payload["choices"][0]["message"] = {"content": None, "refusal": "I will not."}
    assert wire.read_generate(payload, unwrap=False)[0] == Reply("I will not.", "refusal")


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": ["text"]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": [{"message": {}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": "x"}, "finish_reason": 5}]},
        {"error": {"message": "upstream fell over"}},
    ],
)
def test_replies_without_readable_text_are_bad(payload: dict[str, Any]):
    with pytest.raises(BadReply):
        wire.read_generate(payload, unwrap=False)


def test_label_probabilities_sum_over_spellings_with_white_space():
    payload = label_reply(("A", 0.5), (" B", 0.2), (" A", 0.1), ("B", 0.05), ("Both", 0.01))
    reply = label_replies.read_label(payload, ("A", "B"))
    assert reply.label_logprobs == pytest.approx((math.log(0.6), math.log(0.25)))


def test_a_label_outside_the_reported_tokens_is_unknown():
    reply = label_replies.read_label(label_reply(("A", 0.9), ("C", 0.05)), ("A", "B"))
    assert reply.label_logprobs[0] == pytest.approx(math.log(0.9))
    assert reply.label_logprobs[1] is None


def test_two_tokens_that_look_alike_both_count():
    reply = label_replies.read_label(label_reply(("A", 0.5), ("A", 0.25)), ("A", "B"))
    assert reply.label_logprobs[0] == pytest.approx(math.log(0.75))


def test_the_chosen_token_counts_even_when_no_candidates_are_listed():
    payload = label_reply(("A", 0.9))
    payload["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = []
    known, unknown = label_replies.read_label(payload, ("A", "B")).label_logprobs
    assert known == pytest.approx(math.log(0.9))
    assert unknown is None


def test_rounding_never_makes_a_probability_above_one():
    reply = label_replies.read_label(label_reply(("A", 0.7), (" A", 0.300001)), ("A", "B"))
    assert reply.label_logprobs[0] == 0.0


def test_a_filtered_label_reply_knows_no_label():
    payload = reply_of("")
    payload["choices"][0] |= {"finish_reason": "content_filter", "logprobs": None}
    assert label_replies.read_label(payload, ("A", "B")) == Reply("", "refusal", (None, None))


@pytest.mark.parametrize("value", ["-1", True, [1]])
def test_a_log_probability_that_is_no_number_is_bad(value: Any):
    payload = label_reply(("A", 0.9))
    payload["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] = value
    with pytest.raises(BadReply):
        label_replies.read_label(payload, ("A", "B"))


@pytest.mark.parametrize(
    "spelled",
    [
        {"token": "ĠB"},
        {"token": "▁B"},
        {"token": "B</w>"},
        {"token": "<0x42>"},
        {"token": [32, 66]},
        {"token": "\ufffd", "bytes": [66]},
        {"token": "ĊB"},
    ],
)
def test_a_label_is_known_however_the_vocabulary_writes_it(spelled: dict[str, Any]):
    payload = label_reply(("A", 0.5))
    payload["choices"][0]["logprobs"]["content"][0]["top_logprobs"].append(
        {"logprob": math.log(0.25), **spelled}
    )
    reply = label_replies.read_label(payload, ("A", "B"))
    assert reply.label_logprobs == pytest.approx((math.log(0.5), math.log(0.25)))


def test_bytes_beside_a_token_do_not_count_it_twice():
    payload = label_reply(("A", 0.5), ("B", 0.25))
    first = payload["choices"][0]["logprobs"]["content"][0]
    first["bytes"] = [65]
    reply = label_replies.read_label(payload, ("A", "B"))
    assert reply.label_logprobs == pytest.approx((math.log(0.5), math.log(0.25)))


@pytest.mark.parametrize("value", [b"null", b"-Infinity", b"NaN"])
def test_one_alternative_that_cannot_be_leaves_the_others(value: bytes):
    payload = label_reply(("A", 0.5), ("B", 0.25), ("C", 0.125))
    payload["choices"][0]["logprobs"]["content"][0]["top_logprobs"][2]["logprob"] = 12345.0
    body = orjson.dumps(payload).replace(b"12345.0", value)
    outcome = read_answer(
        answer(200, body), lambda one: label_replies.read_label(one, ("A", "B", "C")), 0.0
    )
    assert isinstance(outcome, Success)
    known = outcome.value.label_logprobs
    assert known[:2] == pytest.approx((math.log(0.5), math.log(0.25)))
    assert known[2] is None


def test_log_probabilities_in_the_form_of_text_completions_are_read():
    payload = reply_of("A")
    payload["choices"][0]["logprobs"] = {
        "tokens": ["A"],
        "token_logprobs": [math.log(0.5)],
        "top_logprobs": [{"A": math.log(0.5), " B": math.log(0.25)}],
    }
    reply = label_replies.read_label(payload, ("A", "B"))
    assert reply.label_logprobs == pytest.approx((math.log(0.5), math.log(0.25)))


@pytest.mark.parametrize(
    "message",
    [
        {"content": "B", "reasoning_content": "hm"},
        {"content": "B", "reasoning": "hm"},
        {"content": "<think>hm</think>\n\nB"},
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "B"}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "B"},
            ]
        },
    ],
)
def test_reasoning_is_kept_apart_from_the_reply(message: dict[str, Any]):
    payload = {"choices": [{"message": message, "finish_reason": "stop"}]}
    (reply,) = wire.read_generate(payload)
    assert (reply.text, reply.reasoning) == ("B", "hm")
    assert Reply.from_json(reply.to_json()) == reply


def test_content_in_parts_without_reasoning_is_text():
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    payload = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    assert wire.read_generate(payload)[0].text == "Hello"


def test_counts_beyond_any_reply_are_unknown():
    usage = {"prompt_tokens": 2**63, "completion_tokens": 10**30, "total_tokens": 2**70}
    assert wire.read_usage({"usage": usage}) == Usage()
    got = read_answer(answer(200, {"x": 1, "usage": {"total_tokens": 2**63}}), lambda _: 1, 0.0)
    assert got == Success(1, 0.0)


def test_exact_labels_are_read_by_id():
    payload = label_reply(("token_id:9", 0.5), ("token_id:4", 0.2), ("token_id:5", 0.1))
    reply = label_replies.read_label_ids(payload, [(4, 5), (9,)])
    assert reply is not None
    assert reply.label_logprobs == pytest.approx((math.log(0.3), math.log(0.5)))


def test_a_server_that_ignored_the_ids_is_noticed():
    assert label_replies.read_label_ids(label_reply(("token_id:9", 0.5)), [(4,), (9,)]) is None
    assert label_replies.read_label_ids(label_reply(("A", 0.5), ("B", 0.4)), [(4,), (9,)]) is None


def test_ids_of_a_label_are_found_through_both_spellings():
    tokens = {"\n": [1], "A": [2], " A": [3], "\nA": [1, 2], "\n A": [1, 3]}
    assert vllm_extensions.ids_of_label(tokens, "A") == (2, 3)


def test_a_tokenizer_that_puts_a_space_first_still_shows_the_bare_letter():
    # SentencePiece: "A" alone is the token with a space (3); only inside a text it is bare (2).
    tokens = {"\n": [9, 1], "A": [3], " A": [9, 3], "\nA": [9, 1, 2], "\n A": [9, 1, 3]}
    assert vllm_extensions.ids_of_label(tokens, "A") == (2, 3)


def test_a_label_of_several_tokens_has_no_id():
    tokens = {"\n": [1], "AB": [2, 3], " AB": [4, 3], "\nAB": [1, 2, 3], "\n AB": [1, 4, 3]}
    assert vllm_extensions.ids_of_label(tokens, "AB") == ()


def test_exact_label_body_asks_for_one_token_and_the_ids():
    body = vllm_extensions.exact_label_body(
        Label(MESSAGES, ("A", "B")), [(5, 3), (3, 4)], "max_tokens"
    )
    assert body["logprob_token_ids"] == [3, 4, 5]
    assert (body["max_tokens"], body["logprobs"], body["temperature"]) == (1, True, 0.0)


def test_a_score_sums_the_last_positions():
    entries = [{"1": {"logprob": -0.5}}, {"2": {"logprob": -1.0}}, {"3": {"logprob": -2.0}}]
    payload = {"choices": [{"prompt_logprobs": [None, *entries]}], "usage": {"prompt_tokens": 4}}
    reply = vllm_extensions.read_score(payload, [2, 3])
    assert (reply.logprob, reply.scored_tokens, reply.usage.prompt_tokens) == (-3.0, 2, 4)


@pytest.mark.parametrize(
    "positions", [None, [], [None], [None, None], [{"7": {"logprob": -1.0}}], [{"2": {}}]]
)
def test_a_score_with_a_missing_value_is_bad(positions: Any):
    with pytest.raises(BadReply):
        vllm_extensions.read_score({"choices": [{"prompt_logprobs": positions}]}, [2])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "content", "logprobs", "top_logprobs", "token", "logprob",
             "usage", "prompt_tokens", "prompt_logprobs", "index", "finish_reason", "tokens",
             "data", "prompt_tokens_details", "id"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip


@given(JSON)
@settings(max_examples=300)
def test_whatever_json_comes_back_it_is_a_reply_or_a_bad_reply(value: Any):
    payloads = [{"choices": value, "usage": value, "data": value, "tokens": value}]
    payloads.append({"choices": [value]})
    payloads.append({"choices": [{"message": {"content": "x"}, "logprobs": value, "usage": value}]})
    payloads.append({"choices": [{"message": {"content": "x"}, "prompt_logprobs": [value]}]})
    payloads.append(value if isinstance(value, dict) else {})
    for payload in payloads:
        for read in (
            lambda one: wire.read_generate(one, unwrap=False),
            lambda one: wire.read_generate(one, unwrap=True),
            lambda one: label_replies.read_label(one, ("A", "B")),
            lambda one: label_replies.read_label_ids(one, [(1,), (2,)]),
            lambda one: vllm_extensions.read_score(one, [1]),
            vllm_extensions.read_tokens,
            wire.read_models,
        ):
            with contextlib.suppress(BadReply):
                read(payload)


def answer(status: int, body: Any = b"", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return Answer(status, {key.replace("_", "-"): value for key, value in headers.items()}, data)


def sort(got: Answer) -> Any:
    return read_answer(got, lambda payload: payload["x"], 0.0)


def test_a_good_reply_is_done_with_its_tokens():
    assert sort(answer(200, {"x": 1, "usage": {"total_tokens": 12}})) == Success(1, 12.0)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff"])
def test_a_200_that_is_no_json_object_is_a_bad_reply(body: bytes):
    outcome = sort(answer(200, body))
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.failing) == ("bad-reply", False)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_busy_servers_delay(status: int):
    assert sort(answer(status, {"error": {"message": "busy"}}, retry_after="3")) == Throttled(
        3.0, f"HTTP {status}: busy"
    )


@pytest.mark.parametrize(
    ("status", "failing"), [(500, True), (502, True), (504, True), (408, False)]
)
def test_passing_errors_are_trouble(status: int, failing: bool):
    outcome = sort(answer(status, {"message": "oops"}))
    assert outcome == Failed(f"http-{status}", f"HTTP {status}: oops", failing=failing)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_anything_else_is_refused(status: int):
    assert isinstance(sort(answer(status, {"detail": "no"})), Rejected)


def test_a_429_for_an_empty_account_is_refused_and_not_waited_for():
    body = {"error": {"message": "quota", "code": "insufficient_quota"}}
    assert isinstance(sort(answer(429, body)), Rejected)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 60.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 100000000000000000000 07:28:00 GMT"}, None),
        ({"retry-after": "1" + "0" * 20}, 1e20),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None):
    # The clock stands at 40 s after the epoch.
    assert read_retry_after(headers, 40.0) == seconds


def test_the_words_of_a_server_are_found_and_kept_short():
    error = {"error": {"message": "a\n  b", "code": "X", "type": "Y", "param": "n"}}
    assert explain(orjson.dumps(error)) == Explanation("a b", "x y", ("n",))
    assert explain(b'{"object": "error", "message": "old vLLM"}').words == "old vLLM"
    assert explain(b"<html>Bad Gateway</html>").words == "<html>Bad Gateway</html>"
    assert explain(b"").words == "no explanation"
    assert len(shorten(explain(b"x" * 5000).words)) == 300


def test_control_characters_in_a_servers_words_are_taken_out():
    said = explain(orjson.dumps({"error": {"message": "a\x1b[2Jb\u202ec\x07"}})).words
    assert said == "a [2Jb c"


_BODIES: tuple[Any, ...] = (
    {**label_reply(("A", 0.5), (" B", 0.25)), "usage": {"prompt_tokens": 3, "total_tokens": 4}},
    {
        "status": "completed",
        "output": [{"content": [{"type": "output_text", "text": "A", "logprobs": [{}]}]}],
        "usage": {"input_tokens": 1},
    },
    {"error": {"message": "x - {'error': {'message': 'y', 'code': 4}}", "code": 429, "param": "n"}},
    [{"error": {"code": 400, "details": [{"fieldViolations": [{"field": "seed"}]}]}}],
)
_JUNK: tuple[Any, ...] = (None, [], {}, True, -1, 2**80, "\ud800", 1e300, [[[{}]]], {"text": [3]})


def _spoiled(value: Any, draw: random.Random) -> Any:
    """Put junk in the place of one value, somewhere inside."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.2:
        return draw.choice(_JUNK)
    copy = copy_of(value)
    key = draw.choice(list(copy)) if isinstance(copy, dict) else draw.randrange(len(copy))
    copy[key] = _spoiled(copy[key], draw)
    return copy


def test_whatever_is_spoiled_in_an_answer_it_is_sorted_and_never_a_traceback():
    draw = random.Random(5)
    readers = [
        lambda one: wire.read_generate(one, unwrap=True, stop=("A",)),
        lambda one: label_replies.read_label(one, ("A", "B")),
        lambda one: label_replies.read_label_ids(one, [(1,), (2,)]),
        lambda one: wire.read_generate(responses.chat_of(one)),
        lambda one: label_replies.read_label(responses.chat_of(one), ("A", "B")),
    ]
    for _ in range(2000):
        body = json.dumps(_spoiled(draw.choice(_BODIES), draw)).encode()
        if draw.random() < 0.3:
            body = body[: draw.randrange(len(body) + 1)]
        got = answer(draw.choice([200, 200, 400, 422, 500, 503]), body)
        for read in readers:
            outcome = read_answer(got, read, 0.0)
            assert isinstance(outcome, Success | Throttled | Failed | Rejected)


def test_a_conversation_with_tools_is_sent_as_servers_take_it():
    messages = Prompt.build(ASKED, tools=[WEATHER]).messages
    body = generate(messages=messages)
    assert body["tools"] == [WEATHER]
    assert body["tool_choice"] == "none"
    assert body["messages"][1] == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert body["messages"][2]["tool_call_id"] == "c7"
    assert all("tools" not in message for message in body["messages"])
    label = wire.label_body(
        Label(messages, ("A", "B")), max_tokens_field="max_tokens", top_logprobs=5
    )
    assert label["messages"] == body["messages"]
    stubbed = generate(messages=messages, stub="It")
    assert stubbed["messages"] == [*body["messages"], {"role": "assistant", "content": "It"}]


def test_the_counts_of_the_responses_api_are_read_too():
    details = {"cached_tokens": 8}
    usage = {"input_tokens": 40, "output_tokens": 2, "input_tokens_details": details}
    assert wire.read_usage({"usage": usage}) == Usage(40, 2, 8)


def test_what_a_server_repeats_of_long_prompts_is_taken_out_quickly():
    draw = random.Random(0)
    texts = ["".join(draw.choices("etaoin", k=20_000)) for _ in range(10)]
    words = f"seed is unknown in {texts[9][15_000:16_500]} and that is all"
    began = time.process_time()
    assert without_echo(words, texts) == "seed is unknown in … and that is all"
    assert time.process_time() - began < 1.0  # comparing each with each took about 6 s
