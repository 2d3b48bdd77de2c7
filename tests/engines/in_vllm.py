"""What the in-process vLLM engine does beyond what all engines do; `test_vllm_engine` runs it."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rlaif.engines import Engine, Generate, Label, Sampling, Score, open_engine
from rlaif.engines.vllm.options import VllmOptions, engine_arguments
from rlaif.engines.vllm.server import ServeOptions, server_flags
from rlaif.errors import CallFailed, EngineError, EngineMissing
from rlaif.records import Message
from tests.engines import cases

MODEL = "smollm2-135m-instruct"


def user(content: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": content},)


QUESTION = user("How do I boil an egg? " * 12)
SAMPLE = Generate(QUESTION, Sampling(max_tokens=12), (1, 2, 3))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with cases.vllm(tmp_path) as case:
        yield case.engine


async def test_labels_and_scores_are_those_of_transformers(engine):
    other = open_engine("transformers", model=MODEL, options={"dtype": "float32"})
    for prompt in (QUESTION, user("Which is better, A or B? Say one letter."), user("No. " * 8)):
        asked = Label(prompt, ("A", "B"), stub="The better one is")
        scored = Score(prompt, "Put it in water, and wait.")
        (mine,), (its,) = await engine.ask(asked), await other.ask(asked)
        assert mine.label_logprobs == pytest.approx(its.label_logprobs, abs=2e-3)
        (mine,), (its,) = await engine.ask(scored), await other.ask(scored)
        assert mine.logprob == pytest.approx(its.logprob, abs=2e-2)
        assert mine.scored_tokens == its.scored_tokens
    likeliest = Generate(QUESTION, Sampling(temperature=0.0, max_tokens=16), (1, 2))
    assert [r.text for r in await engine.ask(likeliest)] == [
        r.text for r in await other.ask(likeliest)
    ]
    assert engine.identity["model"] == other.identity["model"]
    assert engine.identity["chat_template"] == other.identity["chat_template"]
    assert engine.identity["dtype"] == "float32"
    await other.aclose()


async def test_samples_of_one_prompt_share_it_through_the_cache(engine):
    prompt = user("Tell me something about eggs that nobody knows. " * 20)
    replies = await engine.ask(replace(SAMPLE, messages=prompt))
    again = await engine.ask(replace(SAMPLE, messages=prompt))
    for reply in again:
        assert 0 < reply.usage.cached_tokens < reply.usage.prompt_tokens
        assert reply.usage.prompt_tokens - reply.usage.cached_tokens <= 32
    assert sum(reply.usage.cached_tokens for reply in replies) > 0


async def test_replies_are_held_to_a_schema(engine):
    schema = {
        "type": "object",
        "properties": {"better": {"enum": ["A", "B"]}},
        "required": ["better"],
        "additionalProperties": False,
    }
    asked = replace(SAMPLE, schema=json.dumps(schema), sampling=Sampling(max_tokens=40))
    for reply in await engine.ask(asked):
        assert json.loads(reply.text)["better"] in ("A", "B")


async def test_a_stop_string_ends_a_reply_and_is_no_part_of_it(engine):
    sampling = Sampling(temperature=0.0, max_tokens=40)
    (whole,) = await engine.ask(Generate(QUESTION, sampling, (1,)))
    word = whole.text.split()[3]
    (cut,) = await engine.ask(Generate(QUESTION, replace(sampling, stop=(word,)), (1,)))
    assert cut.text == whole.text[: whole.text.index(word)]
    assert cut.finish == "stop"


async def test_further_sampling_parameters_reach_vllm_and_unknown_ones_are_named(engine):
    narrow = Sampling(max_tokens=8, extra=(("top_k", 1),))
    texts = {reply.text for reply in await engine.ask(replace(SAMPLE, sampling=narrow))}
    assert len(texts) == 1
    with pytest.raises(EngineMissing, match="does not support the sampling parameter topk"):
        await engine.ask(replace(SAMPLE, sampling=Sampling(extra=(("topk", 1),))))
    with pytest.raises(CallFailed, match="top_k"):
        await engine.ask(replace(SAMPLE, sampling=Sampling(extra=(("top_k", -7),))))


async def test_label_probabilities_are_those_before_any_temperature(engine):
    (reply,) = await engine.ask(Label(user("Say yes or no."), ("Yes", "No", "Maybe")))
    assert None not in reply.label_logprobs
    assert 0.0 < sum(math.exp(value or 0.0) for value in reply.label_logprobs) < 1.0


def test_one_event_loop_after_another_can_ask_it(tmp_path):
    async def ask() -> str:
        async with cases.vllm(tmp_path) as case:
            (reply,) = await case.engine.ask(replace(SAMPLE, seeds=(1,)))
            return reply.text

    assert asyncio.run(ask()) == asyncio.run(ask())


async def test_closing_fails_what_is_under_way_and_what_comes_later(engine):
    long = Generate(QUESTION, Sampling(max_tokens=1500, extra=(("ignore_eos", True),)), (1, 2))
    under_way = asyncio.create_task(engine.ask(long))
    await asyncio.sleep(0.5)
    await engine.aclose()
    with pytest.raises(EngineError):
        await under_way
    with pytest.raises(EngineError, match="closed"):
        await engine.ask(SAMPLE)


def test_this_vllm_knows_every_argument_we_give_it():
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    settings = ServeOptions(
        model="m",
        revision="r",
        max_model_len=512,
        max_num_seqs=4,
        kv_cache_gib=1.5,
        gpu_memory_utilization=0.5,
        tensor_parallel=2,
        trust_remote_code=True,
        chat_template="template.jinja",
    )
    for cpu in (True, False):
        parsed = parser.parse_args(server_flags(settings, place="m", name="m", port=1, cpu=cpu))
        assert parsed.enable_prompt_tokens_details is True
        assert parsed.kv_cache_memory_bytes == 3 * 2**29
        given = engine_arguments(VllmOptions(kv_cache_gib=1), cpu=cpu)
        assert set(given) <= {field.name for field in fields(AsyncEngineArgs)}
