import math
import subprocess
import sys
from typing import Any

import pytest

from rlaif.training.harness.metrics import (
    MetricsLog,
    Trackers,
    draw_curves,
    drop_lines_after,
    read_metrics,
)


def test_what_is_written_can_be_read_back(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(1, {"loss": 0.5})
    log.write(2, {"loss": math.nan, "margin": 1.0})
    log.close()
    assert read_metrics(tmp_path) == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": None, "margin": 1.0},
    ]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_line_is_on_disk_when_write_returns(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(1, {"loss": 0.5})
    assert len(read_metrics(tmp_path)) == 1
    log.close()
    log.close()


def test_a_resume_drops_what_lies_after_its_checkpoint(tmp_path):
    for resume, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = MetricsLog(tmp_path, resume_step=resume)
        for step in steps:
            log.write(step, {"loss": float(step)})
        log.close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step":1,"loss":1.0}\n{"step":2,"lo', encoding="utf-8")
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}]
    drop_lines_after(path, 5)
    assert path.read_text(encoding="utf-8") == '{"step":1,"loss":1.0}\n'


def test_other_processes_write_nothing(tmp_path):
    log = MetricsLog(tmp_path, enabled=False)
    log.write(1, {"loss": 1.0})
    log.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [0, 1])
def test_a_curve_needs_two_points(tmp_path, count):
    rows = [{"step": i, "loss": 1.0} for i in range(count)]
    assert not draw_curves(rows, ["loss"], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_curves_are_a_picture(tmp_path):
    rows = [{"step": i, "loss": 1.0 / (i + 1), "note": None} for i in range(5)]
    assert draw_curves(rows, ["loss", "note", "missing"], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


class Recorded:
    """Stands in for accelerate: trackers are services, or packages that no extra installs."""

    last: "Recorded"

    def __init__(self, log_with: list[str]) -> None:
        self.lines: list[tuple[Any, ...]] = [("with", log_with)]
        Recorded.last = self

    def init_trackers(self, project: str, config: Any, options: Any) -> None:
        sys.stdout.write("welcome")
        self.lines.append(("init", project, config, options))

    def log(self, values: Any, step: int) -> None:
        self.lines.append(("log", step, values))

    def end_training(self) -> None:
        self.lines.append(("end",))


def test_trackers_get_finite_values_and_the_settings(monkeypatch, capsys):
    monkeypatch.setattr("accelerate.Accelerator", Recorded)
    trackers = Trackers(["wandb"], "run", {"beta": 0.1, "data": ["x"]})
    trackers.write(3, {"loss": 0.5, "kl": float("nan")})
    trackers.close()
    trackers.close()
    assert Recorded.last.lines == [
        ("with", ["wandb"]),
        ("init", "rlaif", {"beta": 0.1}, {"wandb": {"name": "run"}}),
        ("log", 3, {"loss": 0.5}),
        ("end",),
    ]
    assert capsys.readouterr().out == ""


def test_without_a_tracker_nothing_is_loaded_or_sent():
    program = """
import sys
from rlaif.training.harness.metrics import Trackers
trackers = Trackers([], "run", {})
trackers.write(1, {"loss": 0.5})
trackers.close()
print([name for name in ("accelerate", "wandb", "trackio") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
