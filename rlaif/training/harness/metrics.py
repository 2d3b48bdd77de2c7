"""What a training measured: one line of JSON per logged step, TensorBoard events, and a picture.

``metrics.jsonl`` is the record; TensorBoard and the PNG are views of it. After a resume the file
holds exactly the lines an uninterrupted training would have written.
"""

import contextlib
import importlib.util
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import EngineMissing

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
