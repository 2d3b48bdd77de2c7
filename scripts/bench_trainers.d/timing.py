"""Seconds, CPU-seconds and GPU memory of training, measured alike on both sides."""

import time
from typing import Any

import torch
from transformers import TrainerCallback


def clocks() -> tuple[float, float]:
    """Return both clocks, after a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def gpu_peak() -> dict[str, float]:
    """Return the most GPU memory that tensors held, in GiB; nothing without a GPU."""
    if not torch.cuda.is_available():
        return {}
    return {"gpu_peak": torch.cuda.max_memory_allocated() / 2**30}


class StepTimes(TrainerCallback):
    """Adds up forward, backward and optimiser of every step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self._began = (0.0, 0.0)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = clocks()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        (began, cpu_began), (ended, cpu_ended) = self._began, clocks()
        self.seconds.append(ended - began)
        self.cpu_seconds.append(cpu_ended - cpu_began)

    def means(self) -> dict[str, float]:
        """Return means over all steps: both sides see every row once, in another order."""
        return {
            "seconds": sum(self.seconds) / len(self.seconds),
            "cpu_seconds": sum(self.cpu_seconds) / len(self.cpu_seconds),
        }
