"""Memory: keeping what is freed, and running out of it, on any device."""

import ctypes
import sys

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


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h of glibc
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Have malloc keep what is freed: the next step of a training will ask for the same again.

    glibc gives large blocks back at once and gets them anew, page by page and zeroed, which took a
    tenth of each step on a CPU (docs/experiments.md). From here on this process gives nothing back,
    and needs a few hundredths more at most, for blocks are no longer packed as tightly. Elsewhere
    than on Linux with glibc, and where a GPU computes, nothing happens.
    """
    if sys.platform != "linux" or torch.cuda.is_available():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _NEVER)


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
