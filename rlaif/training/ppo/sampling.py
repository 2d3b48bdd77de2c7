"""Drawing responses: exactly from the policy's distribution at one temperature, nothing else.

No top-k, no nucleus, no repetition penalty, no minimum length, whatever the checkpoint's own
generation settings say: log-probabilities of tokens that were drawn from another distribution
than the one they are scored under give negative "KL" and wrong gradients.

A token is the inverse of the cumulative distribution at a number that belongs to (seed, response,
position), so a rollout does not depend on batch, process or what was drawn before, and a resumed
run draws the same.

Shapes: B responses, T new tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from rlaif.training.forward.head import transposed_linears
from rlaif.training.forward.sequences import Tokens


@dataclass(frozen=True, slots=True)
class Sampled:
    """One response as drawn."""

    tokens: list[int]
    """At least one; ends with the stop token if ``ended``."""

    ended: bool
    """Whether the policy stopped by itself before the limit."""

    logprobs: list[float] = field(default_factory=list)
    """Of each token under the distribution it was drawn from; empty where that is not known."""

    entropies: list[float] = field(default_factory=list)
    """Of each of those distributions, in nats; empty where not known."""


def sample_responses(
    policy: Any,
    prompts: Sequence[Tokens],
    seeds: Sequence[int],
    *,
    stop_ids: Sequence[int],
    pad_id: int,
    max_new_tokens: int,
    temperature: float = 1.0,
) -> list[Sampled]:
    """Draw one response per prompt, all in one batch with a key-value cache.

    Args:
        policy: A transformers causal language model in eval mode.
        prompts: Token ids; padded on the left here.
        seeds: One per response.
        stop_ids: Tokens that end a response; each counts as its last action.
        pad_id: Any id; may equal a stop token.
        max_new_tokens: ≥ 1.
        temperature: > 0.
    """
    width = max(len(prompt) for prompt in prompts)
    ids_BL = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask_BL = torch.zeros_like(ids_BL)
    for row, prompt in enumerate(prompts):
        ids_BL[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask_BL[row, width - len(prompt) :] = 1
    uniforms = [np.random.Generator(np.random.PCG64(seed)).random(max_new_tokens) for seed in seeds]
    draw = _Draw(torch.tensor(np.array(uniforms), device=policy.device), width, temperature)
    own_settings = policy.generation_config
    policy.generation_config = _settings()  # or its top_k, penalties and the like come in
    try:
        with torch.no_grad(), transposed_linears(policy):
            out_BL = policy.generate(
                input_ids=ids_BL.to(policy.device),
                attention_mask=mask_BL.to(policy.device),
                generation_config=_settings(
                    do_sample=False,  # the processor below has drawn already
                    max_new_tokens=max_new_tokens,
                    eos_token_id=list(stop_ids),
                    pad_token_id=pad_id,
                ),
                logits_processor=LogitsProcessorList([draw]),
            )
    finally:
        policy.generation_config = own_settings
    drawn_BT = out_BL[:, width:].tolist()
    logprobs_BT = torch.stack(draw.logprobs, dim=1).tolist()
    entropies_BT = torch.stack(draw.entropies, dim=1).tolist()
    return [
        cut(*row, frozenset(stop_ids))
        for row in zip(drawn_BT, logprobs_BT, entropies_BT, strict=True)
    ]


def _settings(**options: Any) -> GenerationConfig:
    return GenerationConfig(**options)  # type: ignore[no-untyped-call]


def cut(
    tokens: list[int],
    logprobs: Sequence[float | None],
    entropies: list[float],
    stop_ids: frozenset[int],
) -> Sampled:
    """Drop what stands after the first stop token, which belongs to the response.

    Log-probabilities of which some are None are not known.
    """
    stop = next((t for t, token in enumerate(tokens) if token in stop_ids), None)
    end = len(tokens) if stop is None else stop + 1
    known = [x for x in logprobs[:end] if x is not None]
    return Sampled(
        tokens[:end], stop is not None, known if len(known) == end else [], entropies[:end]
    )


class _Draw(LogitsProcessor):
    """Draws a token per row and leaves it as the only one possible."""

    def __init__(self, uniforms_BT: Tensor, start: int, temperature: float) -> None:
        self._uniforms_BT = uniforms_BT
        self._start = start
        self._temperature = temperature
        self.logprobs: list[Tensor] = []
        self.entropies: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        t = input_ids.shape[1] - self._start
        logprobs_BV = (scores.float() / self._temperature).log_softmax(dim=1)
        p_BV = logprobs_BV.exp()
        self.entropies.append(-(p_BV * logprobs_BV).sum(dim=1))
        # fp64: a running sum in fp32 would round the tail of a large vocabulary away.
        cumulative_BV = p_BV.cumsum(dim=1, dtype=torch.float64)
        target_B1 = self._uniforms_BT[:, t, None] * cumulative_BV[:, -1:]
        token_B1 = torch.searchsorted(cumulative_BV, target_B1, right=True)
        token_B1 = token_B1.clamp(max=scores.shape[1] - 1)
        self.logprobs.append(logprobs_BV.gather(1, token_B1).squeeze(1))
        return torch.full_like(scores, -torch.inf).scatter_(1, token_B1, 0.0)
