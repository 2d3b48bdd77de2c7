"""What ends a training early: a request to stop, memory, disk, weights that are NaN."""

import errno
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

import torch

from rlaif.errors import TrainingError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_ECHO = 1.0
"""Seconds within which more signals are the same request: a launcher passes on the Ctrl-C that the
terminal has already sent to all processes."""


class Diverged(TrainingError):  # noqa: N818 - reads like its siblings in rlaif.errors
    """Weights or loss are NaN or infinite; the only end of a training that saves nothing."""


class Interrupts:
    """Ctrl-C while training: finish the step, save, stop. A second one stops at once.

    An optimiser step that is broken off leaves half-updated weights, so the first signal only
    sets a flag that the training loop checks between steps.

    A context manager that turns the first SIGINT or SIGTERM into ``requested``.

    Does nothing outside the main thread, where Python delivers no signals; a notebook's interrupt
    then raises KeyboardInterrupt as usual and the last checkpoint stands.
    """

    def __init__(self) -> None:
        self.requested = False
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._ask) for name in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            self._first = time.monotonic()
        elif time.monotonic() - self._first > _ECHO:
            before = self._before.get(signal.Signals(number))
            self._restore()
            if callable(before):
                before(number, frame)
            else:
                raise KeyboardInterrupt

    def _restore(self) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)
        self._before = {}


_PAIRS = (
    "set gradient_checkpointing and repeat the command to resume; or lower batch_size (and raise"
    " accumulate) or max_length, or set lora, with another out"
)
_GROUPS = "lower micro_batch or set gradient_checkpointing, then repeat the command to resume"
_PPO = (
    "lower micro_tokens (training) or generation_batch (drawing), or set gradient_checkpointing;"
    " then repeat the command to resume"
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
    """Return what to change, for a `Recipe.kind`."""
    return _HINTS.get(kind, _PAIRS)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = (
    "no space left on device",
    "disk quota exceeded",
    "file too large",
    # torch keeps no errno
    "pytorchstreamwriter failed writing",
    "iostream error",
)


def is_disk_full(problem: BaseException | None) -> bool:
    """Whether a file could not be written for want of space; libraries say so in several ways."""
    while problem is not None:
        said = str(problem).lower()
        if getattr(problem, "errno", None) in _FULL or any(word in said for word in _FULL_WORDS):
            return True
        problem = problem.__cause__ or problem.__context__
    return False
