"""What is shown while work goes on, by where it goes."""

import json
import sys

import pytest

from rlaif.cli.progress import shown_counts, shown_progress
from rlaif.pipeline.tally import Progress

HALF = Progress(total=10, rows=4, failures=1, asked=7, remembered=0, price=None, rate=2.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds; change its only item."""
    now = [0.0]
    monkeypatch.setattr("rlaif.cli.progress.time.monotonic", lambda: now[0])
    return now


def test_off_a_terminal_there_is_a_plain_line_every_half_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with shown_counts() as on_count:
        for clock[0] in range(100):
            on_count("sample policy", int(clock[0]), 100)
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [f"sample policy: {done} of 100" for done in (30, 60, 90)]
    assert shown.out == ""


def test_a_plain_line_of_a_run_has_the_figures_of_the_live_one(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with shown_progress(json=False) as on_progress:
        on_progress(HALF)
        clock[0] = 30.0
        on_progress(HALF)
    assert capsys.readouterr().err == "5 of 10 prompts · 2.0/s · calls 7 · failures 1\n"


def test_json_is_about_a_hundred_lines_per_stage(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with shown_counts(json=True) as on_count:
        for done in range(2001):
            on_count("judge", done, 2000)
    out, err = capfdbinary.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 101
    assert lines[-1] == {"event": "progress", "stage": "judge", "done": 2000, "total": 2000}
    assert err == b""


def test_a_terminal_has_a_bar_per_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with shown_counts() as on_count:
        on_count("first", 1, 2)
        on_count("second", 3, 3)
    shown = capsys.readouterr()
    assert "first" in shown.err
    assert "second" in shown.err
    assert shown.out == ""
