import io
import json
import sys

from rlaif.training.harness.progress import Sample, TrainingProgress, progress_style

SAMPLE = Sample("say red\nnow", "red \x1b[2J [bold]x[/bold]")


def test_json_prints_one_object_per_event_and_nothing_else(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, write_through=True))
    with TrainingProgress(4, style="json") as progress:
        progress.update(1, {"loss": 0.5})
        progress.show_samples(1, [SAMPLE])
        progress.say("saved")
    events = [json.loads(line) for line in raw.getvalue().splitlines()]
    assert events == [
        {"event": "step", "step": 1, "total": 4, "loss": 0.5},
        {
            "event": "samples",
            "step": 1,
            "samples": [{"prompt": SAMPLE.prompt, "response": SAMPLE.response}],
        },
        {"event": "note", "text": "saved"},
    ]


def test_plain_speaks_now_and_then_with_an_estimate(capsys, monkeypatch):
    monkeypatch.setattr("rlaif.training.harness.progress._PLAIN_EVERY", 0.0)
    with TrainingProgress(10, done=4, style="plain") as progress:
        progress.update(7, {"loss": 0.25})
        assert 0 <= progress.seconds_left() < 60
    assert "step 7/10: loss 0.25, about 0:00 min left" in capsys.readouterr().err


def test_plain_is_silent_between(capsys):
    with TrainingProgress(10, style="plain") as progress:
        progress.update(1, {"loss": 0.25})
    assert capsys.readouterr().err == ""


def test_model_written_text_cannot_steer_the_terminal(capsys):
    with TrainingProgress(10, style="plain") as progress:
        progress.show_samples(3, [SAMPLE])
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert shown.startswith("[3] say red now → red")


def test_a_terminal_shows_text_as_it_is(capsys):
    with TrainingProgress(10, style="terminal") as progress:
        progress.update(1, {"loss": 0.25})
        progress.show_samples(3, [SAMPLE])
    assert "[bold]x[/bold]" in capsys.readouterr().err


def test_before_the_first_step_nothing_is_estimated():
    assert TrainingProgress(10).seconds_left() == float("inf")


def test_the_style_follows_where_stderr_goes(monkeypatch):
    assert progress_style(json=True) == "json"
    assert progress_style(quiet=True, json=True) == "quiet"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert progress_style() == "terminal"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert progress_style() == "plain"
