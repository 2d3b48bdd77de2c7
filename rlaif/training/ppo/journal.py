"""What a training leaves behind while it runs: metrics, samples, checkpoints, the live display."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from rlaif.training.harness.folder import TrainingFolder
from rlaif.training.harness.metrics import MetricsLog, Trackers, drop_lines_after, read_metrics
from rlaif.training.harness.progress import (
    FILE as SAMPLES,
    Sample,
    Style,
    TrainingProgress,
    keep_samples,
)
from rlaif.training.ppo.checkpoint import State, save_checkpoint
from rlaif.training.ppo.optimiser import Optimiser


@dataclass(frozen=True, slots=True)
class Habits:
    """How often what is written and shown."""

    rollouts: int
    save_every: int
    show_every: int
    show_samples: int
    style: Style = "quiet"
    report_to: Sequence[str] = ()


class Journal:
    """A context manager around one training; writes in the main process only.

    Args:
        folder: The training's.
        state: Where it starts.
        optimisers: ``policy`` and ``critic``; their parameters are what is saved.
        habits: How often.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        state: State,
        *,
        optimisers: Mapping[str, Optimiser],
        habits: Habits,
    ) -> None:
        self.state = state
        self._folder = folder
        self._optimisers = optimisers
        self._habits = habits
        main = folder.is_main
        if main:
            drop_lines_after(folder.out / SAMPLES, state.rollout)
        self._trackers = Trackers(habits.report_to, folder.out.name, folder.plan)
        self._metrics = MetricsLog(folder.out, resume_step=state.rollout, enabled=main)
        before = read_metrics(folder.out) if main and state.rollout else []
        self.last: dict[str, float] = before[-1] if before else {}
        """Metrics of the last rollout."""

        self._progress = TrainingProgress(
            habits.rollouts, done=state.rollout, style=habits.style if main else "quiet"
        )

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.__exit__(kind, problem, trace)
        self._metrics.close()
        self._trackers.close()

    def say(self, text: str) -> None:
        """Show a line."""
        self._progress.say(text)

    def add(self, state: State, metrics: dict[str, float], samples: Sequence[Sample]) -> None:
        """Take down a finished rollout."""
        self.state, self.last = state, metrics
        habits, number = self._habits, state.rollout
        self._metrics.write(number, metrics)
        self._trackers.write(number, metrics)
        self._progress.update(number, metrics)
        if habits.show_samples and number % habits.show_every == 0:
            shown = list(samples[: habits.show_samples])
            if self._folder.is_main:
                keep_samples(self._folder.out, number, shown)
            self._progress.show_samples(number, shown)
        if number % habits.save_every == 0:
            self.save()

    def save(self, *, torn: bool = False) -> None:
        """Write a checkpoint of where the training stands, unless it is on disk already.

        ``torn``: an update was interrupted, so the weights are between two rollouts. They never
        take the place of a checkpoint of the rollout before, from which the exact training goes on.

        Raises:
            Diverged: The weights are not worth saving.
        """
        last = self._folder.last_checkpoint()
        on_disk = last is not None and last[0] == self.state.rollout
        if not self._folder.is_main or on_disk or (self.state.rollout == 0 and not torn):
            return
        for optimiser in self._optimisers.values():
            optimiser.check()
        if torn:
            self.state = replace(self.state, torn=True)
        save_checkpoint(self._folder, self.state, self._optimisers)
