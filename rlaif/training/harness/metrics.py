"""The watch over one training, whatever its loop: metrics, trackers, samples, live display.

``metrics.jsonl``, one line of JSON per logged step, is the record; TensorBoard and the picture are
views of it. After a resume the file holds exactly the lines of an uninterrupted training.
"""

import contextlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from rlaif.errors import EngineMissing
from rlaif.training.harness.folder import TrainingFolder
from rlaif.training.harness.progress import (
    FILE as SAMPLES,
    Sample,
    Style,
    TrainingProgress,
    keep_samples,
    mean_score,
)

FILE = "metrics.jsonl"
_EVENTS = "tensorboard"


class MetricsLog:
    """Writes metrics of one training; every line is on disk when `write` returns."""

    def __init__(self, out: Path, *, resume_step: int = 0, enabled: bool = True) -> None:
        """Open the log, dropping whatever lies after the checkpoint that training resumes from.

        Args:
            out: The training's folder.
            resume_step: Lines of later steps are dropped; 0 starts afresh.
            enabled: False on all processes but the first.
        """
        self._path = out / FILE
        self._enabled = enabled
        self._events: Any = None
        if not enabled:
            return
        drop_lines_after(self._path, resume_step)
        self._file = self._path.open("ab", buffering=0)
        self._events = _open_events(out / _EVENTS, resume_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add what was measured at a step; a value that is not finite is kept as null."""
        if not self._enabled:
            return
        row = {"step": step, **values}
        self._file.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        for name, value in values.items():
            if math.isfinite(value):
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close; safe to call twice."""
        if self._enabled:
            self._enabled = False
            self._file.close()
            self._events.close()


def need_trackers(names: Sequence[str]) -> None:
    """Check that the trackers are installed.

    Raises:
        EngineMissing: One is not.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise EngineMissing(f"report_to: {name} is not installed", hint=f"pip install {name}")


class Trackers:
    """wandb or trackio beside our own record; transformers' trainers bring their own.

    Args:
        names: From ``report_to``; none does nothing.
        run: What the run is called there.
        settings: Kept with it.
    """

    def __init__(self, names: Sequence[str], run: str, settings: Mapping[str, Any]) -> None:
        self._accelerator: Any = None
        if not names:
            return
        from accelerate import Accelerator

        self._accelerator = Accelerator(log_with=list(names))
        kept = {name: value for name, value in settings.items() if not isinstance(value, list)}
        with contextlib.redirect_stdout(sys.stderr):  # they greet, and stdout may be JSON
            self._accelerator.init_trackers("rlaif", kept, {name: {"name": run} for name in names})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Send what was measured at a step; only the main process does."""
        if self._accelerator is not None:
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            self._accelerator.log(finite, step=step)

    def close(self) -> None:
        """Finish the run there; safe to call twice."""
        if self._accelerator is not None:
            with contextlib.redirect_stdout(sys.stderr):
                self._accelerator.end_training()
            self._accelerator = None


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Return the rows of a training's metrics, oldest first; a torn last line is left out."""
    return _read_lines(out / FILE)


def drop_lines_after(path: Path, step: int) -> None:
    """Rewrite JSON lines without the rows whose ``step`` is later; create it if missing."""
    kept = [row for row in _read_lines(path) if row["step"] <= step]
    staging = path.with_suffix(".tmp")
    staging.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in kept))
    staging.replace(path)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            rows.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            break  # a killed process may leave half a line, at the end only
    return rows


def draw_curves(rows: Iterable[Mapping[str, Any]], names: Sequence[str], path: Path) -> bool:
    """Draw the named metrics over steps, one panel each, as a PNG.

    Returns:
        False when none of them was measured twice; nothing is written then.
    """
    from matplotlib.figure import Figure

    series: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
    for row in rows:
        for name in names:
            if isinstance(row.get(name), int | float):
                series[name].append((row["step"], row[name]))
    drawn = {name: points for name, points in series.items() if len(points) > 1}
    if not drawn:
        return False
    columns = min(3, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * lines), layout="constrained")
    for place, (name, points) in enumerate(drawn.items(), start=1):
        axes = figure.add_subplot(lines, columns, place)
        axes.plot(*zip(*points, strict=True), linewidth=1.2)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return True


def _open_events(folder: Path, resume_step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    purge = resume_step + 1 if resume_step else None
    return SummaryWriter(log_dir=str(folder), purge_step=purge)


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
        score = mean_score(samples)
        if score is not None:
            self.add(step, {"samples/score": score})
