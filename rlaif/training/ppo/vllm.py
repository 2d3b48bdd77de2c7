"""Responses drawn by vLLM: faster on a GPU, from weights pushed before each rollout.

TRL's `VLLMGeneration` holds the engine, in this process (``colocate``) or behind a server. vLLM's
kernels round differently from the training forward pass, so its tokens come from a slightly
different distribution; `rlaif.training.ppo.losses` corrects for that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlaif.config.online import VllmConfig
from rlaif.errors import InputError
from rlaif.training.forward.sequences import Tokens
from rlaif.training.ppo.distributed import Distributed
from rlaif.training.ppo.sampling import Sampled, cut

_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens that vLLM makes room for."""

    prompt: int
    """Of the longest one."""

    response: int
    """Where a response is cut off."""


class VllmRollouts:
    """Draws responses with vLLM.

    In ``colocate`` a response depends on its own seed, not on what is drawn beside it; a server
    takes no seeds, so that a resumed training draws other responses than an uninterrupted one.

    Args:
        policy: A transformers or PEFT model; its folder or hub id is what vLLM loads first.
        tokenizer: The policy's.
        settings: Where vLLM runs.
        lengths: What it makes room for.
        stop_ids: Tokens that end a response.
        temperature: > 0.
        world: The processes; in ``colocate`` each has its own engine.

    Raises:
        InputError: vLLM cannot start with this model, or the server cannot be reached.
    """

    def __init__(
        self,
        policy: Any,
        tokenizer: Any,
        settings: VllmConfig,
        lengths: Lengths,
        *,
        stop_ids: Sequence[int],
        temperature: float,
        world: Distributed,
    ) -> None:
        self.importance = settings.importance
        """Bounds of the weights that correct for vLLM's other rounding."""

        self._stop_ids = frozenset(stop_ids)
        self._seeded = settings.mode == "colocate"
        self._options = {
            "max_tokens": lengths.response,
            "temperature": temperature,
            "stop_token_ids": sorted(stop_ids),
            "logprobs": 0,
            # The scored distribution is the sampled one: temperature and nothing else.
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
        }
        try:
            self._generation = _open(
                policy,
                tokenizer,
                settings,
                world,
                max_model_length=lengths.prompt + lengths.response,
                max_completion_length=lengths.response,
                temperature=temperature,
                generation_kwargs={"stop_token_ids": sorted(stop_ids)},
            )
        except (ConnectionError, OSError, ValueError, RuntimeError) as problem:
            raise InputError(
                f"vllm: cannot be started: {str(problem).splitlines()[0]}",
                hint="leave vllm out to draw with transformers",
            ) from problem

    def draw(self, prompts: Sequence[Tokens], seeds: Sequence[int]) -> list[Sampled]:
        """Push the weights, then draw one response per prompt."""
        self._generation.sync_weights()
        tokens = [list(prompt) for prompt in prompts]
        if self._seeded:
            return self._draw_seeded(tokens, seeds)
        _, responses, logprobs, _ = self._generation.generate(tokens, None, 1)
        return [
            cut(list(response), [x[0] for x in row], [], self._stop_ids)
            for response, row in zip(responses, logprobs, strict=True)
        ]

    def _draw_seeded(self, prompts: list[list[int]], seeds: Sequence[int]) -> list[Sampled]:
        from vllm import SamplingParams

        outputs = self._generation.llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            sampling_params=[
                SamplingParams(seed=seed & _LARGEST_SEED, **self._options) for seed in seeds
            ],
            use_tqdm=False,
        )
        drawn = [output.outputs[0] for output in outputs]
        return [
            cut(
                list(response.token_ids),
                [
                    entry[token].logprob
                    for token, entry in zip(response.token_ids, response.logprobs, strict=True)
                ],
                [],
                self._stop_ids,
            )
            for response in drawn
        ]


@torch.no_grad()
def plain_weights(policy: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the policy's weights as a model without adapters has them.

    The adapter ``default`` is added to copies. Merging it in place and taking it out again would
    leave rounding in the base, which is the reference.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not hasattr(policy, "peft_config"):
        yield from policy.named_parameters()
        return
    adapted: dict[str, Any] = {
        name: module
        for name, module in policy.named_modules()
        if isinstance(module, BaseTunerLayer)
    }
    for name, parameter in policy.named_parameters():
        if ".lora_" in name:
            continue
        layer = adapted.get(name.removesuffix(".base_layer.weight"))
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        whole = parameter if layer is None else parameter + layer.get_delta_weight("default")
        yield plain, whole.detach()


def generation_class() -> Any:
    """Return TRL's engine holder, version 1.16, pushing `plain_weights`."""
    from trl.generation.vllm_generation import VLLMGeneration

    class Generation(VLLMGeneration):
        def _iter_named_params(self) -> Iterator[tuple[str, Tensor]]:
            return plain_weights(self.model)

    return Generation


def _open(
    policy: Any, tokenizer: Any, settings: VllmConfig, world: Distributed, **options: Any
) -> Any:
    from accelerate import Accelerator

    place: dict[str, Any] = {"gpu_memory_utilization": settings.gpu_memory_utilization}
    if settings.mode == "server":
        place = {"server_base_url": settings.base_url}
    return generation_class()(
        policy,
        Accelerator(cpu=world.device.type == "cpu"),
        tokenizer,
        mode=settings.mode,
        **place,
        **options,
    )
