"""Running out of memory: how it is recognised on any device, and what helps each trainer."""

import torch

_PAIRS = (
    "set gradient_checkpointing and repeat the command to go on; or lower batch_size (and raise"
    " accumulate) or max_length, or set lora, with another out"
)
_GROUPS = "lower micro_batch or set gradient_checkpointing, then repeat the command to go on"
_PPO = (
    "lower micro_tokens (training) or generation_batch (drawing), or set gradient_checkpointing;"
    " then repeat the command to go on"
)
_HINTS = {"ppo": _PPO, "rloo": _GROUPS, "grpo": _GROUPS}


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the machine; drivers say so in several ways."""
    if isinstance(problem, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(problem).lower()
    return isinstance(problem, RuntimeError) and (
        "out of memory" in said or "can't allocate memory" in said
    )


def memory_hint(kind: str) -> str:
    """Say what to change; ``kind`` is that of a `TrainingFolder`."""
    return _HINTS.get(kind, _PAIRS)
