"""Measuring on held-out rows while training, stopping by it, and scoring samples."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif import train_dpo
from rlaif.errors import ConfigError, InputError
from rlaif.training import train_dpo as train_without_scorer, train_reward, train_sft
from rlaif.training.harness.metrics import read_metrics
from tests.training.tiny import colour_pairs

ARGUMENTS: dict[str, Any] = {"batch_size": 4, "held_out": 0.4, "learning_rate": 1e-3, "warmup": 0.0}


def held_out_losses(out: Path) -> dict[int, float]:
    rows = read_metrics(out)
    return {row["step"]: row["held_out/loss"] for row in rows if "held_out/loss" in row}


def train(tiny: Path, out: Path, **changes: Any) -> Any:
    return train_dpo(dataset=colour_pairs(24), model=tiny, out=out, **{**ARGUMENTS, **changes})


def test_held_out_pairs_are_measured_while_training(tiny, tmp_path):
    result = train(tiny, tmp_path / "out", max_steps=6, measure_every=2)
    losses = held_out_losses(tmp_path / "out")
    assert list(losses) == [2, 4, 6]
    assert losses[6] == pytest.approx(result.metrics["held_out"]["loss"])


def test_measuring_does_not_change_the_training(tiny, tmp_path):
    plain = train(tiny, tmp_path / "plain", max_steps=4)
    measured = train(tiny, tmp_path / "measured", max_steps=4, measure_every=1)
    assert plain.metrics["loss"] == measured.metrics["loss"]


def test_a_training_stops_when_the_held_out_loss_no_longer_falls(tiny, tmp_path):
    # So large a learning rate that the loss soon rises.
    out = tmp_path / "out"
    result = train(
        tiny,
        out,
        learning_rate=0.5,
        max_steps=20,
        measure_every=1,
        stop_after=2,
        schedule="constant",
    )
    losses = held_out_losses(out)
    best = min(losses, key=lambda step: losses[step])
    assert result.steps == best + 2 < 20
    assert result.metrics["held_out"]["loss"] == pytest.approx(losses[best], rel=1e-4)
    assert f"the weights are those of step {best}" in (out / "README.md").read_text()


def test_a_stopped_training_resumes_with_its_count_of_measurements(tiny, tmp_path, monkeypatch):
    arguments = {"learning_rate": 0.5, "max_steps": 20, "measure_every": 1, "stop_after": 3}
    whole = train(tiny, tmp_path / "whole", **arguments)
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path / "parts", **arguments)
    monkeypatch.undo()
    assert train(tiny, tmp_path / "parts", **arguments).steps == whole.steps
    assert held_out_losses(tmp_path / "parts") == held_out_losses(tmp_path / "whole")


def interrupt_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlaif.training.harness.metrics import Watch

    add = Watch.add

    def add_and_stop(self: Any, at: int, values: Any) -> None:
        add(self, at, values)
        if at >= step:
            self.stopping = lambda: True

    monkeypatch.setattr(Watch, "add", add_and_stop)


@pytest.mark.parametrize("kind", ["sft", "reward"])
def test_the_other_trainers_on_rows_stop_by_the_same_rule(tiny, tmp_path, kind):
    from datasets import Dataset

    pairs = colour_pairs(24)
    rows = [{"messages": row["prompt"] + row["chosen"]} for row in pairs]
    trainer: Any = train_reward if kind == "reward" else train_sft
    result = trainer(
        dataset=pairs if kind == "reward" else Dataset.from_list(rows),
        model=tiny,
        out=tmp_path / "out",
        **{**ARGUMENTS, "learning_rate": 0.5, "schedule": "constant"},
        max_steps=12,
        measure_every=1,
        stop_after=2,
    )
    assert result.steps < 12
    assert "held_out/loss" in read_metrics(tmp_path / "out")[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": 0.0, "measure_every": 2}, "measure_every needs held_out"),
        ({"stop_after": 2}, "stop_after needs measure_every"),
        ({"samples": {"reward": {"rules": "concise"}}}, "set every"),
    ],
)
def test_a_stop_rule_without_anything_to_measure_is_refused(tiny, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        train(tiny, tmp_path / "out", **change)


def test_samples_are_scored_by_the_rules_that_the_file_names(tiny, tmp_path):
    samples = {"every": 2, "prompts": 2, "max_tokens": 4, "reward": {"rules": "concise"}}
    train(tiny, tmp_path / "out", max_steps=4, samples=samples)
    kept = [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in kept] == [2, 2, 4, 4]
    assert all(0 <= row["score"] <= 1 for row in kept)
    means = {
        row["step"]: row["samples/score"]
        for row in read_metrics(tmp_path / "out")
        if "samples/score" in row
    }
    assert means[2] == pytest.approx((kept[0]["score"] + kept[1]["score"]) / 2)


def test_a_function_that_opens_no_scorer_says_so(tiny, tmp_path):
    samples = {"every": 2, "reward": {"rules": "concise"}}
    with pytest.raises(InputError, match=r"samples\.reward"):
        train_without_scorer(
            dataset=colour_pairs(8), model=tiny, out=tmp_path / "out", samples=samples
        )
