"""Seconds and CPU-seconds of training steps, the same for both sides."""

import time
from typing import Any

from transformers import TrainerCallback


class StepTimes(TrainerCallback):
    """Adds up forward, backward and optimiser of every step after the first."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self._began = (0.0, 0.0)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        began, cpu_began = self._began
        self.seconds.append(time.perf_counter() - began)
        self.cpu_seconds.append(time.process_time() - cpu_began)

    def means(self) -> dict[str, float]:
        """Return means over all steps: both sides see every row once, in another order."""
        return {
            "seconds": sum(self.seconds) / len(self.seconds),
            "cpu_seconds": sum(self.cpu_seconds) / len(self.cpu_seconds),
        }
