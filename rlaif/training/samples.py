"""Replies of the policy while it trains: greedy, so that they cost no randomness and compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import torch

from rlaif.training.progress import Sample

FILE = "samples.jsonl"


def sample_prompts(rows: Sequence[Mapping[str, Any]], count: int) -> list[Any]:
    """Return the first ``count`` different prompts, as strings or message lists."""
    found: list[Any] = []
    for row in rows:
        if row["prompt"] not in found:
            found.append(row["prompt"])
        if len(found) == count:
            break
    return found


def sample_replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    *,
    max_tokens: int,
) -> list[Sample]:
    """Answer each prompt greedily; the model's mode is put back afterwards."""
    training = model.training
    model.eval()
    try:
        return [_reply(model, tokenizer, prompt, max_tokens) for prompt in prompts]
    finally:
        model.train(training)


def keep_samples(out: Path, step: int, samples: Sequence[Sample]) -> None:
    """Append samples to ``samples.jsonl``."""
    with (out / FILE).open("ab") as file:
        for sample in samples:
            row = {"step": step, "prompt": sample.prompt, "response": sample.response}
            file.write(orjson.dumps(row) + b"\n")


@torch.no_grad()
def _reply(model: Any, tokenizer: Any, prompt: Any, max_tokens: int) -> Sample:
    if isinstance(prompt, str):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        shown = prompt
    else:
        ids = tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        shown = str(prompt[-1]["content"])
    ids = ids.to(model.device)
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=max_tokens,
        use_cache=True,
    )
    text = tokenizer.decode(made[0, ids.size(1) :], skip_special_tokens=True)
    return Sample(shown, str(text))
