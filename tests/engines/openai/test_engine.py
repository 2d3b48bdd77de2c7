"""The engine against a healthy server, by both transports, and what it must never show."""

import gzip
import logging
import math
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from rlaif.engines import Capability, Generate, Label, Reply, Sampling, Score, Usage
from rlaif.engines.openai.engine import OpenAIEngine, build_openai_engine
from rlaif.engines.traffic.transport import _unpacked
from rlaif.errors import CallFailed, ConfigError, EngineMissing, EngineUnavailable
from rlaif.records import Message
from tests.engines.faults import Fault, FaultServer, error, refusal, serving

MESSAGES: tuple[Message, ...] = ({"role": "user", "content": "Which is better, tea or coffee?"},)
ONE = Generate(MESSAGES, Sampling(), (5,))
THREE = Generate(MESSAGES, Sampling(max_tokens=64), (5, 6, 7))
LABEL = Label(MESSAGES, ("A", "B"))


@pytest.fixture(params=["sdk", "fast"])
def transport(request: pytest.FixtureRequest) -> Literal["sdk", "fast"]:
    kind: Literal["sdk", "fast"] = request.param
    return kind


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    async with serving() as running:
        yield running


def engine_for(server: FaultServer, **options: Any) -> OpenAIEngine:
    return build_openai_engine(model="test-model", base_url=server.base_url, options=options)


async def ask(server: FaultServer, request: Any, **options: Any) -> list[Reply]:
    engine = engine_for(server, **options)
    try:
        return list(await engine.ask(request))
    finally:
        await engine.aclose()


async def test_several_samples_are_one_call_with_n_and_the_first_seed(server, transport):
    replies = await ask(server, THREE, transport=transport)
    assert len({reply.text for reply in replies}) == 3
    (seen,) = server.chats()
    assert (seen.body["n"], seen.body["seed"]) == (3, 5)
    assert (seen.body["temperature"], seen.body["top_p"], seen.body["max_tokens"]) == (1.0, 1.0, 64)


async def test_both_transports_give_the_same_replies_to_the_same_bodies(server):
    requests = [ONE, THREE, LABEL, Generate(MESSAGES, Sampling(), (1,), choices=("x", "y"))]
    by_sdk = [await ask(server, request, transport="sdk") for request in requests]
    bodies = [seen.body for seen in server.seen]
    server.seen.clear()
    by_fast = [await ask(server, request, transport="fast") for request in requests]
    assert by_sdk == by_fast
    assert bodies == [seen.body for seen in server.seen]


async def test_without_n_there_is_one_call_per_seed(server, transport):
    together = await ask(server, THREE, transport=transport)
    server.seen.clear()
    apart = await ask(server, THREE, transport=transport, supports_n=False)
    assert sorted(seen.body["seed"] for seen in server.chats()) == [5, 6, 7]
    assert [one.text for one in apart] == [one.text for one in together]


async def test_a_server_that_ignores_n_is_asked_for_the_rest_and_learnt(server):
    server.fake.n_works = False
    engine = engine_for(server)
    assert len(await engine.ask(THREE)) == 3
    assert [seen.body.get("n") for seen in server.chats()] == [3, None, None]
    server.seen.clear()
    await engine.ask(THREE)
    assert [seen.body.get("n") for seen in server.chats()] == [None, None, None]
    await engine.aclose()


async def test_a_server_that_refuses_n_is_asked_singly(server):
    server.refuses_n = True
    replies = await ask(server, THREE)
    assert len({reply.text for reply in replies}) == 3


async def test_seeds_are_left_out_where_unknown(server):
    await ask(server, ONE, supports_seed=False)
    assert "seed" not in server.chats()[0].body


async def test_usage_carries_cached_tokens(server, transport):
    (reply,) = await ask(server, ONE, transport=transport)
    assert reply.usage == Usage(6, 5, 3)


async def test_a_stop_ends_the_reply(server):
    request = Generate(MESSAGES, Sampling(stop=(" to",)), (5,))
    (reply,) = await ask(server, request)
    assert reply.text.startswith("This is reply")
    assert not reply.text.endswith("you")


async def test_choices_use_structured_outputs_on_vllm_and_a_schema_elsewhere():
    request = Generate(MESSAGES, Sampling(), (1, 2, 3, 4), choices=("yes", "no"))
    async with serving("vllm") as vllm, serving("openai") as other:
        for server, field in ((vllm, "structured_outputs"), (other, "response_format")):
            replies = await ask(server, request)
            assert {reply.text for reply in replies} <= {"yes", "no"}
            assert field in server.chats()[0].body


async def test_exact_label_probabilities_on_vllm(server, transport):
    (reply,) = await ask(server, LABEL, transport=transport)
    assert reply.label_logprobs == pytest.approx((math.log(0.7), math.log(0.25)))
    body = server.chats()[0].body
    expected = [server.fake.tokenizer.ids[token] for token in ("A", " A", "B", " B")]
    assert body["logprob_token_ids"] == sorted(expected)


async def test_an_unlikely_label_is_known_exactly_on_vllm_and_unknown_elsewhere():
    request = Label(MESSAGES, ("A", "Q"))
    async with serving("vllm") as vllm, serving("plain") as plain:
        (exact,) = await ask(vllm, request)
        (partly,) = await ask(plain, request)
    assert exact.label_logprobs[1] == pytest.approx(math.log(2e-6))
    assert partly.label_logprobs[0] == pytest.approx(math.log(0.7))
    assert partly.label_logprobs[1] is None


async def test_token_ids_of_labels_are_asked_for_once(server):
    engine = engine_for(server)
    for _ in range(3):
        await engine.ask(LABEL)
    await engine.aclose()
    assert server.counts["/tokenize"] == 9  # "\n" and twice four spellings
    assert server.counts["/v1/models"] == 1
    assert server.counts["/v1/chat/completions"] == 3


@pytest.mark.parametrize("status", [400, 422])
async def test_a_vllm_without_the_exact_parameter_falls_back(server, status):
    server.fault_of = lambda body: (
        error(status, "extra fields") if "logprob_token_ids" in body else None
    )
    engine = engine_for(server)
    (reply,) = await engine.ask(LABEL)
    assert reply.label_logprobs == pytest.approx((math.log(0.7), math.log(0.25)))
    await engine.ask(LABEL)
    await engine.aclose()
    assert ["logprob_token_ids" in seen.body for seen in server.chats()] == [True, False, False]


async def test_a_vllm_that_ignores_the_exact_parameter_falls_back(server):
    server.fake.flavour = "plain"
    (reply,) = await ask(server, LABEL)
    assert reply.label_logprobs == pytest.approx((math.log(0.7), math.log(0.25)))
    assert server.chats()[-1].body["top_logprobs"] == 20


async def test_a_row_that_is_refused_does_not_end_exact_labels(server):
    engine = engine_for(server)
    await engine.ask(LABEL)
    server.script.append(error(400, "maximum context length is 4096 tokens"))
    with pytest.raises(CallFailed) as failed:
        await engine.ask(LABEL)
    assert failed.value.kind == "context-length"
    server.seen.clear()
    await engine.ask(LABEL)
    await engine.aclose()
    assert "logprob_token_ids" in server.chats()[0].body


async def test_exact_labels_demanded_of_a_server_without_them_say_so():
    async with serving("plain") as plain:
        with pytest.raises(EngineMissing, match="logprob_token_ids"):
            await ask(plain, LABEL, labels="logprob_token_ids")


async def test_a_label_of_several_tokens_is_refused_with_its_name(server):
    with pytest.raises(EngineMissing, match=r"'A\+' is not a single token"):
        await ask(server, Label(MESSAGES, ("A+", "B")))


async def test_a_score_is_the_sum_over_the_tokens_of_the_continuation(server, transport):
    request = Score(MESSAGES, "Tea is better.")
    (reply,) = await ask(server, request, transport=transport, score="vllm")
    tokens = server.fake.tokenizer.encode("Tea is better.")
    assert reply.logprob == pytest.approx(sum(map(server.fake.logprob_of, tokens)))
    assert reply.scored_tokens == 4
    (completion,) = [seen for seen in server.seen if seen.path == "/v1/completions"]
    prompt = f"<user>{MESSAGES[0]['content']}<assistant>"
    assert completion.body["prompt"] == server.fake.tokenizer.encode(prompt) + tokens


async def test_template_settings_reach_the_tokenizer_when_scoring(server):
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "min_p": 0.1}
    await ask(server, Score(MESSAGES, "Tea."), score="vllm", extra_body=extra)
    asked = next(seen.body for seen in server.seen if "messages" in seen.body)
    assert asked["chat_template_kwargs"] == {"enable_thinking": False}
    assert "min_p" not in asked


async def test_scoring_at_a_server_without_a_tokenizer_says_so():
    async with serving("plain") as plain:
        with pytest.raises(EngineMissing, match="no /tokenize"):
            await ask(plain, Score(MESSAGES, "Tea."), score="vllm")


async def test_an_empty_continuation_has_no_score(server):
    with pytest.raises(CallFailed) as failed:
        await ask(server, Score(MESSAGES, ""), score="vllm")
    assert failed.value.kind == "empty"


async def test_extra_body_and_headers_travel_with_every_call(server, transport, monkeypatch):
    monkeypatch.setenv("TEAM_HEADER", "team-value")
    options = {
        "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
        "headers_env": {"X-Team": "TEAM_HEADER"},
    }
    await ask(server, ONE, transport=transport, **options)
    (seen,) = server.chats()
    assert seen.body["chat_template_kwargs"] == {"enable_thinking": False}
    assert seen.headers["X-Team"] == "team-value"


async def test_accounts_of_the_environment_are_not_sent_to_other_servers(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-private")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    await ask(server, ONE, transport="sdk")
    sent = str(dict(server.chats()[0].headers))
    assert "sk-" not in sent
    assert "private" not in sent
    assert server.chats()[0].headers["Authorization"] == "Bearer EMPTY"


async def test_a_prefilled_reply_needs_the_option(server):
    stubbed = Generate(MESSAGES, Sampling(), (1,), stub="Because")
    with pytest.raises(EngineMissing, match="prefill"):
        await ask(server, stubbed)
    await ask(server, stubbed, prefill=True)
    body = server.chats()[0].body
    assert body["messages"][-1] == {"role": "assistant", "content": "Because"}


async def test_what_the_options_rule_out_is_refused_before_anything_is_sent(server):
    chosen = Generate(MESSAGES, Sampling(), (1,), choices=("a", "b"))
    with pytest.raises(EngineMissing, match="constrain"):
        await ask(server, chosen, structured="none")
    with pytest.raises(EngineMissing, match="score"):
        await ask(server, Score(MESSAGES, "x"))
    assert server.seen == []


async def test_a_filtered_reply_is_a_refusal_and_no_failure(server, transport):
    server.script.append(refusal())
    replies = await ask(server, THREE, transport=transport)
    assert [reply.finish for reply in replies] == ["refusal"] * 3
    server.script.append(error(400, "The response was filtered", code="content_filter"))
    (reply,) = await ask(server, ONE, transport=transport)
    assert reply == Reply(finish="refusal")
    server.script.append(refusal())
    (label,) = await ask(server, LABEL, transport=transport)
    assert label.label_logprobs == (None, None)


async def test_text_that_is_no_unicode_fails_alone(server):
    broken: tuple[Message, ...] = ({"role": "user", "content": "half \ud800 a pair"},)
    with pytest.raises(CallFailed) as failed:
        await ask(server, Generate(broken, Sampling(), (1,)))
    assert failed.value.kind == "bad-request"


async def test_an_unknown_model_names_what_is_served(server, transport):
    server.models = ["other-model", "third-model"]
    with pytest.raises(EngineMissing) as missing:
        await ask(server, ONE, transport=transport)
    assert "does not serve model 'test-model'" in missing.value.message
    assert missing.value.hint == ("did you mean 'other-model'? it serves: other-model, third-model")


async def test_litellm_says_in_its_own_words_that_model_or_key_is_wrong(server):
    words = "/chat/completions: Invalid model name passed in model=test-model."
    server.models = ["other-model"]
    body = {"message": words, "type": "invalid_request_error", "param": None, "code": "400"}
    server.script.append(Fault("status", 400, payload={"error": body}))
    with pytest.raises(EngineMissing, match="does not serve model 'test-model'"):
        await ask(server, ONE)
    body = {"message": "No connected db.", "type": "no_db_connection", "code": "400"}
    server.script.append(Fault("status", 400, payload={"error": body}))
    with pytest.raises(EngineMissing, match="does not accept the key"):
        await ask(server, ONE)


async def test_an_address_without_the_api_says_so(server, transport):
    server_root = server.base_url.removesuffix("/v1")
    engine = build_openai_engine(
        model="test-model", base_url=server_root, options={"transport": transport}
    )
    with pytest.raises(EngineMissing, match="/v1"):
        await engine.ask(ONE)
    await engine.aclose()


async def test_a_key_travels_and_is_never_shown(server, transport, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "sk-very-secret-0123456789"
    monkeypatch.setenv("JUDGE_KEY", secret)
    server.key = secret
    engine = build_openai_engine(
        model="test-model",
        base_url=server.base_url,
        api_key_env="JUDGE_KEY",
        options={"transport": transport, "max_attempts": 2},
    )
    await engine.ask(ONE)
    assert server.chats()[0].headers["Authorization"] == f"Bearer {secret}"
    shown = [repr(engine), str(engine), str(dict(engine.identity)), str(engine.stats())]

    server.key = "another"  # the server repeats the key it was given in its refusal
    with pytest.raises(EngineUnavailable) as revoked:
        await engine.ask(ONE)
    assert "JUDGE_KEY" in str(revoked.value)
    assert "***" in str(revoked.value)
    shown += [str(revoked.value), repr(revoked.value)]

    server.key = secret
    server.script.extend([error(500, f"crashed with {secret}")] * 2)
    with pytest.raises(CallFailed) as failed:
        await engine.ask(ONE)
    shown += [str(failed.value), repr(failed.value), repr(failed.value.__cause__)]
    shown += [repr(failed.value.__context__)]
    await engine.aclose()
    assert secret not in "\n".join([*shown, caplog.text])


async def test_a_refused_key_names_its_variable_or_how_to_name_one(server, transport):
    server.key = "right"
    with pytest.raises(EngineMissing, match="api_key_env: NAME"):
        await ask(server, ONE, transport=transport)


async def test_capabilities_follow_the_options(server):
    plain = engine_for(server).capabilities
    assert plain == {
        Capability.GENERATE,
        Capability.SAMPLES,
        Capability.TOP_LOGPROBS,
        Capability.STRUCTURED,
    }
    full = engine_for(
        server, labels="logprob_token_ids", score="vllm", prefill=True, supports_n=False
    ).capabilities
    assert full - plain == {Capability.LABEL_LOGPROBS, Capability.SCORE, Capability.PREFILL}
    assert plain - full == {Capability.SAMPLES}


async def test_closing_twice_is_safe_and_asking_again_reconnects(server, transport):
    engine = engine_for(server, transport=transport)
    await engine.aclose()
    first = await engine.ask(ONE)
    await engine.aclose()
    await engine.aclose()
    assert await engine.ask(ONE) == first
    await engine.aclose()


async def test_azures_deployments_take_their_key_and_version(transport, monkeypatch):
    monkeypatch.setenv("AZURE_KEY", "azure-secret")
    async with serving("plain") as server:
        engine = build_openai_engine(
            model="test-model",
            base_url=f"{server.base_url}",
            api_key_env="AZURE_KEY",
            options={"provider": "azure", "transport": transport},
        )
        await engine.ask(ONE)
        (seen,) = server.chats()
        assert seen.headers["api-key"] == "azure-secret"
        assert "Authorization" not in seen.headers
        assert server.queries == ["api-version=2024-10-21"]
        await engine.aclose()


async def test_a_key_that_a_server_cuts_short_is_not_shown_either(server, monkeypatch):
    secret = "sk-very-secret-0123456789abcdef"
    monkeypatch.setenv("JUDGE_KEY", secret)
    engine = build_openai_engine(
        model="test-model", base_url=server.base_url, api_key_env="JUDGE_KEY"
    )
    for words in (f"wrong: {secret[:20]}…", "x" * 280 + secret, f"{secret}{secret[:12]}"):
        server.script.append(error(400, words))
        with pytest.raises(CallFailed) as failed:
            await engine.ask(ONE)
        assert "secret" not in str(failed.value)
    await engine.aclose()


@pytest.mark.parametrize("way", ["endless", "bomb", "long"])
async def test_a_reply_beyond_the_limit_is_not_read_to_its_end(way, transport):
    async with serving("plain") as server:
        server.flood = way
        engine = engine_for(server, transport=transport, max_reply_bytes=2**20)
        with pytest.raises(CallFailed, match="max_reply_bytes") as failed:
            await engine.ask(ONE)
        assert (failed.value.kind, failed.value.attempts) == ("too-large", 1)
        server.flood = ""
        await engine.ask(ONE)
        await engine.aclose()


async def test_a_packed_reply_within_the_limit_is_read(transport):
    async with serving("plain") as server:
        server.flood = "packed"
        (reply,) = await ask(server, ONE, transport=transport)
        assert reply.text.startswith("This is reply")


async def test_secrets_in_the_query_come_from_the_environment_and_are_not_shown(
    server, monkeypatch
):
    monkeypatch.setenv("SIGNED", "wonder+ful/secret")
    engine = engine_for(server, query={"version": "1.2"}, query_env={"sig": "SIGNED"})
    server.script.append(
        error(400, "bad sig=wonder%2Bful%2Fsecret or wonder+ful/secret or ul/secret")
    )
    with pytest.raises(CallFailed) as failed:
        await engine.ask(ONE)
    assert "secret" not in str(failed.value)
    assert "sig=wonder%2Bful" in server.queries[-1]
    await engine.aclose()


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "sig", "subscription-key"])
def test_a_secret_in_a_file_is_refused_without_being_shown(name: str):
    with pytest.raises(ConfigError, match="query_env") as refused:
        build_openai_engine(model="m", base_url="http://h", options={"query": {name: "hidden-1"}})
    assert "hidden-1" not in str(refused.value)
    for url in ("http://me:hidden-1@h:port", "me:hidden-1@h/v1", "ftp://h?key=hidden-1"):
        with pytest.raises(ConfigError) as refused:
            build_openai_engine(model="m", base_url=url)
        assert "hidden-1" not in str(refused.value)


async def test_no_step_of_unpacking_is_larger_than_its_limit():
    async def pieces() -> AsyncIterator[bytes]:
        yield gzip.compress(bytes(50_000_000))

    sizes = [len(one) async for one in _unpacked(pieces(), {"Content-Encoding": "gzip"})]
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= 2**18
