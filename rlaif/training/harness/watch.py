"""The watch over one training, whatever its loop: metrics, trackers, samples, live display."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rlaif.training.harness.folder import TrainingFolder
from rlaif.training.harness.metrics import MetricsLog, Trackers, drop_lines_after, read_metrics
from rlaif.training.harness.progress import (
    FILE as SAMPLES,
    Sample,
    Style,
    TrainingProgress,
    keep_samples,
)


class Watch:
    """Keeps and shows what a loop reports; a context manager. Writes in the main process only.

    Args:
        folder: The training's.
        step: Where it resumes; what was written after that step is dropped.
        style: How progress is shown, in the main process.
        stopping: Whether this process should stop.
    """

    def __init__(
        self, folder: TrainingFolder, step: int, *, style: Style, stopping: Callable[[], bool]
    ) -> None:
        self.stopping = stopping
        self._folder = folder
        self._step = step
        self._style: Style = style if folder.is_main else "quiet"
        self._progress = TrainingProgress(0, style=self._style)
        self._trackers = Trackers((), "", {})
        if folder.is_main:
            drop_lines_after(folder.out / SAMPLES, step)
        self._log = MetricsLog(folder.out, resume_step=step, enabled=folder.is_main)
        before = read_metrics(folder.out)[-1:] if step else []
        self.last: dict[str, Any] = {
            name: value for row in before for name, value in row.items() if name != "step"
        }
        """The last values of what was measured."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.__exit__(kind, problem, trace)
        self._log.close()
        self._trackers.close()

    def begin(self, total: int, *, trackers: Sequence[str] = ()) -> None:
        """Start the display, now that the number of steps is known.

        Args:
            total: Steps of the whole training.
            trackers: wandb or trackio, for loops that do not report to them by themselves.
        """
        self._trackers = Trackers(trackers, self._folder.out.name, self._folder.plan)
        self._progress = TrainingProgress(total, done=self._step, style=self._style)
        self._progress.__enter__()

    def say(self, text: str) -> None:
        """Show a line."""
        self._progress.say(text)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep and show what was measured at a finished step."""
        self.last |= values
        self._log.write(step, values)
        self._trackers.write(step, values)
        self._progress.update(step, values)

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        """Keep and show replies of the policy."""
        if self._folder.is_main:
            keep_samples(self._folder.out, step, samples)
        self._progress.show_samples(step, samples)
