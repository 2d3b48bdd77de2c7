"""How much a worker takes on at a time. Halved when memory runs out, for the engine's life."""

import math
from dataclasses import dataclass
from typing import Any

import torch

_CPU_CACHE_BYTES = 2 * 2**30
_GPU_CACHE_SHARE = 0.5  # of the memory that is free once the model is loaded
_FEWEST_TOKENS = 4096


@dataclass(slots=True)
class Limits:
    """Of one worker."""

    rows: int
    """Decoded together."""

    tokens: int
    """In the key-value cache: rows times the longest of them, its reply included."""

    prefill_tokens: int
    """Read in one forward pass, padding included; a longer prompt goes alone."""

    logits: int
    """Computed in one pass, in numbers: positions asked about times the vocabulary."""

    pass_cost: int
    """What a forward pass costs beyond its tokens, in tokens: batches grow while they save it."""

    def halve(self, rows: int) -> None:
        """Take on half of what was too much: so many rows."""
        self.rows = max(1, min(self.rows, rows) // 2)
        self.prefill_tokens = max(1, self.prefill_tokens // 2)


def choose_limits(
    model: Any, *, workers: int, max_batch: int | None, max_batch_tokens: int | None
) -> Limits:
    """Choose what each worker takes on: what the options say, else by device and memory.

    On a CPU small passes cost little more than their tokens, and 128 rows keep its cores busy; a
    GPU wants all it can get.
    """
    on_gpu = model.device.type == "cuda"
    if max_batch_tokens is None:
        free = torch.cuda.mem_get_info(model.device)[0] * _GPU_CACHE_SHARE if on_gpu else None
        spare = (free or _CPU_CACHE_BYTES) / workers
        max_batch_tokens = max(_FEWEST_TOKENS, int(spare / _bytes_per_token(model)))
    return Limits(
        rows=max_batch or (256 if on_gpu else 128),
        tokens=max_batch_tokens,
        prefill_tokens=min(16384 if on_gpu else 2048, max_batch_tokens),
        logits=2**28 if on_gpu else 2**26,
        pass_cost=2048 if on_gpu else 16,
    )


def _bytes_per_token(model: Any) -> int:
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return math.prod((2, config.num_hidden_layers, heads, size, model.dtype.itemsize))
