import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif.engines import Engine, Generate, Reply, Sampling
from rlaif.records import content_uniform
from tests.engines.local.brute import Brute, greedy, user
from tests.engines.local.conftest import Opener
from tests.engines.tiny import CONTEXT

PROMPTS = [
    user("How do I boil an egg?"),
    user("Yes."),
    user("the quick brown fox jumps over the lazy dog " * 2),
    user("Which?", system="Answer with one letter: A or B. The lazy dog does not mind at all."),
    user("No fox."),
]
GREEDY = Sampling(temperature=0.0, max_tokens=20)


async def ask_all(engine: Engine, requests: Sequence[Generate]) -> list[list[Reply]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.ask(request)) for request in requests]
    return [list(task.result()) for task in tasks]


async def test_a_batch_of_different_lengths_decodes_like_each_prompt_alone(
    open_tiny: Opener, tiny_models: Callable[[str], Path], kind: str
) -> None:
    brute = Brute(tiny_models(kind))
    expected = [brute.write(brute.prompt_ids(prompt), 20, greedy) for prompt in PROMPTS]
    async with open_tiny(kind) as engine:
        replies = await ask_all(engine, [Generate(prompt, GREEDY, (0,)) for prompt in PROMPTS])
    assert [reply[0].text for reply in replies] == expected


async def test_greedy_is_what_transformers_generate_says(
    open_tiny: Opener, tiny_models: Callable[[str], Path]
) -> None:
    brute = Brute(tiny_models("llama"))
    expected = []
    for prompt in PROMPTS:
        ids = torch.tensor([brute.prompt_ids(prompt)])
        made = brute.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20
        )
        expected.append(brute.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
    async with open_tiny() as engine:
        replies = await ask_all(engine, [Generate(prompt, GREEDY, (0,)) for prompt in PROMPTS])
    assert [reply[0].text for reply in replies] == expected


async def test_a_sample_is_the_inverse_of_the_cumulative_distribution_at_its_own_numbers(
    open_tiny: Opener, tiny_models: Callable[[str], Path], kind: str
) -> None:
    brute = Brute(tiny_models(kind))

    def draw(seed: int) -> Callable[[torch.Tensor, int], int]:
        def choose(logprobs: torch.Tensor, step: int) -> int:
            cumulative = (logprobs / 0.7).softmax(-1).double().cumsum(-1)
            uniform = content_uniform(seed, "token", step) * float(cumulative[-1])
            return int((cumulative <= uniform).sum())

        return choose

    seeds = (1, 2, 3)
    expected = [
        [brute.write(brute.prompt_ids(prompt), 12, draw(seed)) for seed in seeds]
        for prompt in PROMPTS
    ]
    sampling = Sampling(temperature=0.7, max_tokens=12)
    async with open_tiny(kind) as engine:
        replies = await ask_all(engine, [Generate(p, sampling, seeds) for p in PROMPTS])
    assert [[one.text for one in reply] for reply in replies] == expected


@pytest.mark.parametrize(
    "options",
    [
        {"max_batch": 1},
        {"max_batch": 3},
        {"max_batch": 5, "workers": 3},
        {"max_batch_tokens": 120},
    ],
    ids=str,
)
async def test_texts_do_not_depend_on_how_rows_are_batched(
    open_tiny: Opener, kind: str, options: dict[str, Any]
) -> None:
    requests = [
        Generate(prompt, Sampling(max_tokens=length), (seed, seed + 1))
        for seed, (prompt, length) in enumerate(zip(PROMPTS, (25, 3, 30, 9, 16), strict=True))
    ]
    async with open_tiny(kind) as engine:
        together = await ask_all(engine, requests)
    async with open_tiny(kind, **options) as engine:
        otherwise = await ask_all(engine, requests)
    assert together == otherwise


async def test_rows_that_come_late_join_those_under_way(open_tiny: Opener) -> None:
    long = Generate(PROMPTS[0], Sampling(max_tokens=100, stop=("never there",)), (1,))
    late = Generate(PROMPTS[2], Sampling(max_tokens=30), (2,))
    async with open_tiny() as engine:
        alone = [(await engine.ask(long))[0], (await engine.ask(late))[0]]
        first = asyncio.create_task(engine.ask(long))
        await asyncio.sleep(0.05)
        second = await engine.ask(late)
        assert [(await first)[0], second[0]] == alone


async def test_equal_seeds_at_temperature_zero_give_one_text_for_all(open_tiny: Opener) -> None:
    async with open_tiny() as engine:
        replies = await engine.ask(Generate(PROMPTS[0], GREEDY, (1, 2, 3)))
    assert len(replies) == 3
    assert len(set(replies)) == 1


async def test_a_reply_ends_before_its_first_stop_string(open_tiny: Opener) -> None:
    async with open_tiny() as engine:
        (whole,) = await engine.ask(Generate(PROMPTS[0], Sampling(max_tokens=40), (7,)))
        assert len(whole.text) > 20
        late, early = whole.text[12:16], whole.text[5:8]
        sampling = Sampling(max_tokens=40, stop=(late, early))
        (cut,) = await engine.ask(Generate(PROMPTS[0], sampling, (7,)))
    assert cut.text == whole.text[: min(whole.text.find(late), whole.text.find(early))]
    assert cut.finish == "stop"
    assert cut.usage.completion_tokens < whole.usage.completion_tokens


async def test_a_reply_that_reaches_max_tokens_says_length(open_tiny: Opener) -> None:
    async with open_tiny() as engine:
        (reply,) = await engine.ask(Generate(PROMPTS[0], Sampling(max_tokens=3), (7,)))
    assert reply.finish == "length"
    assert reply.usage.completion_tokens == 3


async def test_a_reply_ends_where_the_context_does(open_tiny: Opener) -> None:
    prompt = user("the lazy dog " * 30)
    async with open_tiny() as engine:
        sampling = Sampling(max_tokens=1000, stop=("never there",))
        replies = await engine.ask(Generate(prompt, sampling, tuple(range(6))))
    full = [reply for reply in replies if reply.finish == "length"]
    assert full, "every sample drew the end of its turn"
    assert all(r.usage.prompt_tokens + r.usage.completion_tokens == CONTEXT for r in full)


async def test_a_stub_is_continued_and_not_repeated(
    open_tiny: Opener, tiny_models: Callable[[str], Path]
) -> None:
    brute = Brute(tiny_models("llama"))
    expected = brute.write(brute.prompt_ids(PROMPTS[0], "Put it in"), 20, greedy)
    async with open_tiny() as engine:
        (reply,) = await engine.ask(Generate(PROMPTS[0], GREEDY, (0,), stub="Put it in"))
        (plain,) = await engine.ask(Generate(PROMPTS[0], GREEDY, (0,)))
    assert reply.text == expected != plain.text
