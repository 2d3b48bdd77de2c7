"""Whole trainings on a tiny model: they learn, they resume, they survive."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlaif.errors import ConfigError, EngineMissing, InputError, RunMismatch, TrainingError
from rlaif.training.dpo import trainer as trainer_module
from rlaif.training.dpo.train import train_dpo
from rlaif.training.harness.folder import TrainResult
from rlaif.training.harness.metrics import read_metrics
from tests.training.tiny import colour_pairs

# PEFT 0.21 asks for `is_gradient_checkpointing`, which transformers 5.23 has renamed
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

SETTINGS: dict[str, Any] = {
    "learning_rate": 2e-3,
    "batch_size": 4,
    "epochs": 3,
    "beta": 0.5,
    "warmup": 0.0,
    "save_every": 4,
}


def train(tiny: Path, out: Path, **changes: Any) -> TrainResult:
    given = {"dataset": colour_pairs(16, p=[1.0, 0.8]), "model": tiny, "out": out}
    return train_dpo(**{**given, **SETTINGS, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    return state


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return all(torch.equal(left[name], right[name]) for name in left)


def test_margins_grow_and_the_checkpoint_is_plain_transformers(tiny, tmp_path):
    result = train(tiny, tmp_path / "out", held_out=0.3, samples={"every": 6, "max_tokens": 4})
    rows = read_metrics(tmp_path / "out")
    assert [row["step"] for row in rows] == list(range(1, result.steps + 1))
    assert rows[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-4)
    assert rows[-1]["rewards/margins"] > 0.5
    assert result.metrics["held_out"]["rewards/margins"] > 0.2
    assert 0.8 <= result.metrics["held_out"]["rewards/agreement"] <= 1.0
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "say red"}], return_tensors="pt", return_dict=True
    )
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out")(**ids).logits.isfinite().all()
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| pairs | 16 |" in card
    assert "held_out.rewards/margins" in card
    assert (tmp_path / "out" / "curves.png").exists()
    assert not (tmp_path / "out" / "checkpoints").exists()
    samples = (tmp_path / "out" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["step"] for line in samples} == {6} if result.steps < 12 else {6, 12}


def test_ties_move_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("rlaif.training.data.read._check_labels", lambda *_: None)
    train(tiny, tmp_path / "out", dataset=colour_pairs(16, p=0.5))
    assert same(tiny, tmp_path / "out")
    assert max(abs(row["rewards/margins"]) for row in read_metrics(tmp_path / "out")) < 1e-4
    train(tiny, tmp_path / "moved", dataset=colour_pairs(16, p=0.55))
    assert not same(tiny, tmp_path / "moved")


def test_a_resumed_training_equals_an_uninterrupted_one(tiny, tmp_path):
    train(tiny, tmp_path / "whole")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlaif.training.harness.callback.TrlCallback.on_step_end", _kill_at(10))
        with pytest.raises(LookupError, match="killed"):
            train(tiny, tmp_path / "cut")
    assert (tmp_path / "cut" / "checkpoints" / "checkpoint-8" / "complete.json").exists()
    result = train(tiny, tmp_path / "cut")
    assert result.resumed_from == 8
    assert same(tmp_path / "whole", tmp_path / "cut")
    assert _measured(tmp_path / "whole") == _measured(tmp_path / "cut")


def _kill_at(step: int) -> Any:
    from rlaif.training.harness.callback import TrlCallback

    original: Any = TrlCallback.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == step:
            raise LookupError("killed")
        original(self, args, state, control, **kwargs)

    return on_step_end


def _measured(out: Path) -> list[tuple[Any, ...]]:
    names = ("step", "loss", "rewards/margins", "grad_norm", "learning_rate")
    return [tuple(row[name] for name in names) for row in read_metrics(out)]


def test_an_interrupt_finishes_the_step_saves_and_resumes_later(tiny, tmp_path, monkeypatch):
    train(tiny, tmp_path / "whole")
    original: Any = trainer_module.PreferenceTrainer.training_step

    def step_and_interrupt(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.PreferenceTrainer, "training_step", step_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tiny, tmp_path / "cut")
    assert (tmp_path / "cut" / "checkpoints" / "checkpoint-6" / "complete.json").exists()
    assert train(tiny, tmp_path / "cut").resumed_from == 6
    assert same(tmp_path / "whole", tmp_path / "cut")


def test_running_out_of_memory_saves_what_was_reached(tiny, tmp_path, monkeypatch):
    original: Any = trainer_module.PreferenceTrainer._compute_loss

    def run_out(self: Any, *args: Any) -> Any:
        if self.state.global_step == 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.PreferenceTrainer, "_compute_loss", run_out)
        with pytest.raises(
            TrainingError, match=r"step 7; the checkpoint of step 6 is kept"
        ) as caught:
            train(tiny, tmp_path / "out")
    assert "batch_size" in caught.value.hint
    assert train(tiny, tmp_path / "out").resumed_from == 6


def test_a_loss_that_is_nan_stops_the_training(tiny, tmp_path, monkeypatch):
    original: Any = trainer_module.PreferenceTrainer._compute_loss

    def diverge(self: Any, *args: Any) -> Any:
        loss = original(self, *args)
        return loss * float("nan") if self.state.global_step == 5 else loss

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.PreferenceTrainer, "_compute_loss", diverge)
        with pytest.raises(TrainingError, match="step 6: the loss is nan"):
            train(tiny, tmp_path / "out")
    assert train(tiny, tmp_path / "out").resumed_from == 4


def test_a_finished_training_is_left_alone_unless_forced(tiny, tmp_path):
    train(tiny, tmp_path / "out", epochs=1)
    stamp = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert train(tiny, tmp_path / "out", epochs=1).already_finished
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(RunMismatch, match="epochs"):
        train(tiny, tmp_path / "out", epochs=2)
    again = train(tiny, tmp_path / "out", epochs=2, force=True)
    assert (again.already_finished, again.steps) == (False, 8)


def test_adapters_are_saved_alone_and_merged(tiny, tmp_path):
    train(tiny, tmp_path / "out", lora={"r": 4}, learning_rate=2e-2)
    base = AutoModelForCausalLM.from_pretrained(tiny)
    ids = torch.tensor([[4, 5, 6, 7]])
    plain = base(input_ids=ids).logits
    adapted = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")(input_ids=ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(input_ids=ids).logits
    torch.testing.assert_close(adapted, merged, rtol=1e-4, atol=1e-4)
    assert (plain - merged).abs().max() > 1e-3


def test_adapters_resume_too(tiny, tmp_path):
    lora = {"r": 4, "dropout": 0.0}
    train(tiny, tmp_path / "whole", lora=lora)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlaif.training.harness.callback.TrlCallback.on_step_end", _kill_at(6))
        with pytest.raises(LookupError, match="killed"):
            train(tiny, tmp_path / "cut", lora=lora)
    assert train(tiny, tmp_path / "cut", lora=lora).resumed_from == 4
    assert same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "gdpo"},
        {"loss": "ipo", "beta": 0.1},
        {"loss": "robust", "noise": 0.1},
        {"loss": "regression", "length_normalised": True},
        {"loss": "apo_zero", "nll": 0.2},
        {"nll": 1.0, "reference": "second-model"},
        {"lora": {"r": 4}, "reference": "adapter-off", "accumulate": 2},
    ],
)
def test_every_loss_and_reference_widens_the_margin(tiny, tmp_path, change):
    result = train(tiny, tmp_path / "out", **{"learning_rate": 5e-3, **change})
    assert result.metrics["rewards/margins"] > 0.01
    assert result.metrics["rewards/accuracies"] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "robust"}, "needs noise"),
        ({"noise": 0.1}, "noise belongs to loss robust"),
        ({"logit_clip": 2.0}, "logit_clip belongs"),
        ({"loss": "hinge", "length_normalised": True}, "cannot be combined"),
        ({"reference": "adapter-off"}, "needs lora"),
        ({"loss": "sotf"}, "did you mean 'soft'"),
        ({"betta": 0.1}, "did you mean 'beta'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        train(tiny, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_a_tracker_that_is_not_installed_is_named(tiny, tmp_path):
    with pytest.raises(EngineMissing, match="trackio is not installed"):
        train(tiny, tmp_path / "out", report_to=["trackio"])


def test_a_training_without_data_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match="data is missing"):
        train_dpo(model=tiny, out=tmp_path / "out")
