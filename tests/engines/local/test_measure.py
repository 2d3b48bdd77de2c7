import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rlaif.engines import Engine, Generate, Label, Reply, Request, Sampling, Score
from rlaif.engines.local.forward import Forward
from rlaif.errors import CallFailed
from rlaif.records import content_uniform
from tests.engines.local.brute import Brute, user
from tests.engines.local.conftest import Opener

SHARED = "Answer with one letter: A or B. Which response is better, A or B? "
PROMPTS = [
    user(f"{SHARED}the quick brown fox", system=SHARED),
    user(f"{SHARED}the quick brown fox jumps over the lazy dog", system=SHARED),
    user(f"{SHARED}the lazy dog", system=SHARED),
    user("Yes."),
    user("Put it in water and wait for eight minutes. No."),
]
CONTINUATIONS = ["Put it in water.", "A", " the lazy dog jumps over B", "<|im_end|>", "\nNo.\n"]


async def ask_all(engine: Engine, requests: Sequence[Request]) -> list[Reply]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.ask(request)) for request in requests]
    return [task.result()[0] for task in tasks]


async def test_label_logprobs_are_the_softmax_over_the_whole_vocabulary(
    open_tiny: Opener, tiny_models: Callable[[str], Path], kind: str
) -> None:
    brute = Brute(tiny_models(kind))
    labels = ("A", "B", "Yes")
    expected = [
        [brute.label(brute.prompt_ids(prompt), label) for label in labels] for prompt in PROMPTS
    ]
    async with open_tiny(kind) as engine:
        replies = await ask_all(engine, [Label(prompt, labels) for prompt in PROMPTS])
    for reply, values in zip(replies, expected, strict=True):
        assert reply.label_logprobs == pytest.approx(values, abs=1e-5)


async def test_a_label_counts_with_and_without_its_leading_space(
    open_tiny: Opener, tiny_models: Callable[[str], Path]
) -> None:
    brute = Brute(tiny_models("llama"))
    assert len(brute.encode(" A")) == len(brute.encode("A")) == 1
    row = brute.logprobs(brute.prompt_ids(PROMPTS[0]))[-1]
    both = sum(math.exp(row[brute.encode(text)[0]]) for text in ("A", " A"))
    async with open_tiny() as engine:
        (reply,) = await engine.ask(Label(PROMPTS[0], ("A", "B")))
    assert reply.label_logprobs[0] == pytest.approx(math.log(both), abs=1e-5)


async def test_a_label_is_read_behind_the_stub(
    open_tiny: Opener, tiny_models: Callable[[str], Path]
) -> None:
    brute = Brute(tiny_models("llama"))
    ids = brute.prompt_ids(PROMPTS[0], "The better one is ")
    async with open_tiny() as engine:
        (reply,) = await engine.ask(Label(PROMPTS[0], ("A", "B"), stub="The better one is "))
    assert reply.label_logprobs == pytest.approx(
        [brute.label(ids, "A"), brute.label(ids, "B")], abs=1e-5
    )
    assert reply.text == brute.tokenizer.decode([int(brute.logprobs(ids)[-1].argmax())])


@pytest.mark.parametrize("labels", [("Alphabetical", "B"), ("A", ""), ("A", " A")], ids=str)
async def test_labels_that_are_no_single_token_of_their_own_fail_the_call(
    open_tiny: Opener, labels: tuple[str, ...]
) -> None:
    async with open_tiny() as engine:
        with pytest.raises(CallFailed) as failure:
            await engine.ask(Label(PROMPTS[0], labels))
    assert failure.value.kind == "label-tokens"


async def test_a_score_is_the_sum_of_the_continuations_token_logprobs(
    open_tiny: Opener, tiny_models: Callable[[str], Path], kind: str
) -> None:
    brute = Brute(tiny_models(kind))
    requests = [Score(p, c) for p in PROMPTS for c in CONTINUATIONS]
    async with open_tiny(kind) as engine:
        replies = await ask_all(engine, requests)
    for request, reply in zip(requests, replies, strict=True):
        prompt = brute.prompt_ids(request.messages)
        scored = brute.encode(request.continuation)
        assert reply.logprob == pytest.approx(brute.continuation(prompt, scored), abs=2e-4)
        assert reply.scored_tokens == len(scored)
        assert reply.usage.prompt_tokens == len(prompt) + len(scored)


async def test_the_score_of_a_reply_is_the_sum_of_the_steps_that_wrote_it(
    open_tiny: Opener, tiny_models: Callable[[str], Path]
) -> None:
    brute = Brute(tiny_models("llama"))
    checked = 0
    async with open_tiny() as engine:
        replies = await engine.ask(Generate(PROMPTS[0], Sampling(max_tokens=3), tuple(range(60))))
        for seed, reply in enumerate(replies):
            prompt, tokens, total = brute.prompt_ids(PROMPTS[0]), list[int](), 0.0
            for step in range(reply.usage.completion_tokens):
                row = brute.logprobs([*prompt, *tokens])[-1]
                cumulative = row.exp().double().cumsum(-1)
                uniform = content_uniform(seed, "token", step) * float(cumulative[-1])
                tokens.append(int((cumulative <= uniform).sum()))
                total += float(row[tokens[-1]])
            if not tokens or brute.encode(reply.text) != tokens:
                continue  # drawn tokens that are not how the tokenizer writes this text
            (score,) = await engine.ask(Score(PROMPTS[0], reply.text))
            assert score.logprob == pytest.approx(total, abs=1e-4)
            checked += 1
    assert checked >= 3


async def test_an_empty_continuation_has_no_score(open_tiny: Opener) -> None:
    async with open_tiny() as engine:
        with pytest.raises(CallFailed, match="empty"):
            await engine.ask(Score(PROMPTS[0], ""))


async def test_values_do_not_depend_on_what_is_read_beside_them(
    open_tiny: Opener, kind: str
) -> None:
    requests: list[Request] = [Label(prompt, ("A", "B")) for prompt in PROMPTS]
    requests += [Score(prompt, text) for prompt in PROMPTS[:2] for text in CONTINUATIONS]
    async with open_tiny(kind) as engine:
        alone = [(await engine.ask(request))[0] for request in requests]
        together = await ask_all(engine, requests)
        reverse = await ask_all(engine, requests[::-1])
    for one, other, last in zip(alone, together, reverse[::-1], strict=True):
        for reply in (other, last):
            assert reply.label_logprobs == pytest.approx(one.label_logprobs, abs=1e-5)
            assert reply.logprob == pytest.approx(one.logprob, abs=1e-4)


async def test_a_shared_prefix_is_read_once(
    open_tiny: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = Forward._call

    def counted(self, ids, *arguments, **keywords):
        read.append(ids.numel())
        return original(self, ids, *arguments, **keywords)

    async with open_tiny(max_wait_ms=50) as engine:
        monkeypatch.setattr(Forward, "_call", counted)
        replies = await ask_all(engine, [Label(prompt, ("A", "B")) for prompt in PROMPTS[:3]])
    assert sum(read) < 0.6 * sum(reply.usage.prompt_tokens for reply in replies)
