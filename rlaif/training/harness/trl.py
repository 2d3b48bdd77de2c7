"""A transformers Trainer as a loop of the harness: SFT, DPO, reward models, RLOO and GRPO.

It resumes from the newest whole checkpoint, stops cleanly on Ctrl-C, and keeps what was reached
when memory runs out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback

from rlaif.config.online import OnlineConfig
from rlaif.config.train import TrainConfig
from rlaif.errors import EngineError, InputError, StoppedEarly
from rlaif.training.harness.callback import (
    TrlCallback,
    all_finite,
    held_out_figures,
    restore_random,
)
from rlaif.training.harness.folder import TrainingFolder
from rlaif.training.harness.metrics import Watch
from rlaif.training.harness.progress import sample_prompts, sample_replies
from rlaif.training.harness.recipe import Ended
from rlaif.training.harness.save import write_model
from rlaif.training.harness.stopping import is_out_of_memory
from rlaif.training.models import count_parameters, device_kind
from rlaif.training.scorers import Scorer, ScorerFailed

_BIG = 500_000_000
"""Parameters above which activations are recomputed rather than kept, on a GPU."""


def common_arguments(
    settings: TrainConfig | OnlineConfig, folder: TrainingFolder
) -> dict[str, Any]:
    """Return what every TRL config is built with."""
    return {
        "output_dir": str(folder.checkpoints),
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "seed": settings.seed,
        "use_cpu": device_kind() != "cuda",
        "logging_nan_inf_filter": False,
        "save_total_limit": 2,
        "report_to": list(settings.report_to),
        "project": "rlaif",
        "run_name": folder.out.name,
        "disable_tqdm": True,
        "dataloader_pin_memory": device_kind() == "cuda",
    }


def trainer_arguments(config: TrainConfig, folder: TrainingFolder, model: Any) -> dict[str, Any]:
    """Return what the TRL configs of SFT, DPO and reward models are built with."""
    on_gpu = device_kind() == "cuda"
    big = on_gpu and count_parameters(model) > _BIG
    in_bf16 = big and config.dtype != "float32" and torch.cuda.is_bf16_supported()
    recompute = config.gradient_checkpointing
    return {
        **common_arguments(config, folder),
        "learning_rate": config.learning_rate,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.accumulate,
        "max_length": config.max_length,
        "bf16": in_bf16,
        "tf32": True if on_gpu and torch.cuda.get_device_capability() >= (8, 0) else None,
        "gradient_checkpointing": big if recompute is None else recompute,
        "logging_steps": config.log_every,
        "save_steps": config.save_every,
        "ddp_find_unused_parameters": False,
        **_measuring(config),
    }


def _measuring(config: TrainConfig) -> dict[str, Any]:
    """How often held-out rows are measured, and whether the best checkpoint becomes the result."""
    if not config.measure_every:
        return {"eval_strategy": "no"}
    measuring = {"eval_strategy": "steps", "eval_steps": config.measure_every}
    if config.stop_after is None:
        return measuring
    return {
        **measuring,
        "save_steps": config.measure_every,  # or the best would not be there to return to
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "restore_callback_states_from_checkpoint": True,
    }


@dataclass(frozen=True, slots=True)
class Samples:
    """Greedy replies of the policy while it trains."""

    prompts: Sequence[Any]
    """Strings or lists of messages."""

    every: int
    """Steps between them; 0 for none."""

    max_tokens: int

    scorer: Scorer | None = None
    """Scores the replies; their mean is measured as ``samples/score``."""


def samples_of(
    settings: TrainConfig, rows: Iterable[Mapping[str, Any]], scorer: Scorer | None
) -> Samples:
    """Return the samples a file asks for: replies to the first so many different prompts."""
    wanted = settings.samples
    if wanted.reward is not None and scorer is None:
        raise InputError(
            "samples.reward: this function opens no scorer",
            hint="call rlaif.train_dpo or rlaif.train_sft, which do, or pass scorer=",
        )
    prompts = sample_prompts(rows, wanted.prompts)
    return Samples(prompts, wanted.every, wanted.max_tokens, scorer)


class TrlLoop:
    """Runs a ready Trainer; see `rlaif.training.harness.recipe.Loop`.

    Args:
        trainer: Any transformers Trainer, with its data.
        folder: The training's.
        samples: Replies to show; None for none.
        stop_every: Steps between the places where it may stop: those of a rollout, whose responses
            no checkpoint holds.
        stop_after: Measurements without a lower held-out loss after which it stops.
    """

    def __init__(
        self,
        trainer: Any,
        folder: TrainingFolder,
        *,
        samples: Samples | None = None,
        stop_every: int = 1,
        stop_after: int | None = None,
    ) -> None:
        self.trainer = trainer
        self._stop_after = stop_after
        self._folder = folder
        self._samples = samples
        self._stop_every = stop_every
        self._callback: TrlCallback | None = None

    @property
    def step(self) -> int:
        """The last finished optimiser step."""
        return int(self.trainer.state.global_step)

    def run(self, checkpoint: Path | None, watch: Watch) -> Ended:
        """Train to the end, then measure on the held-out rows, if there are any."""
        trainer = self.trainer
        self._callback = TrlCallback(
            self._folder,
            watch,
            trainer.model,
            agree=self._agree,
            sample=lambda: self._sample(watch),
            stop_every=self._stop_every,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self._callback)
        if self._stop_after is not None:
            trainer.add_callback(EarlyStoppingCallback(self._stop_after))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if self._callback.stopped:
            raise KeyboardInterrupt
        held_out = _evaluate(trainer)
        return Ended(self.step, {"held_out": held_out} if held_out else {}, self._notes())

    def _notes(self) -> tuple[str, ...]:
        """What the stop rule did, for the log and the card."""
        state = self.trainer.state
        if self._stop_after is None or state.best_global_step is None:
            return ()
        best = f"the weights are those of step {state.best_global_step}, with the lowest loss"
        if self.step < state.max_steps:
            return (
                f"stopped at step {self.step} of {state.max_steps}: the held-out loss had not "
                f"fallen in {self._stop_after} measurements; {best}",
            )
        return (f"{best} on held-out rows",)

    def rescue(self, problem: BaseException) -> str:
        """Save the last finished step, unless weights were being changed."""
        last = self._folder.last_checkpoint()
        kept = f"the checkpoint of step {last[0]} is kept" if last else "no step was finished"
        expected = isinstance(problem, ScorerFailed | EngineError | StoppedEarly)
        torn = self._callback is None or self._callback.in_optimiser
        if (
            not (expected or is_out_of_memory(problem))
            or self.step == 0
            or torn
            or (last and last[0] == self.step)
            or not all_finite(self.trainer.model)
        ):
            return kept
        self.trainer.model.zero_grad(set_to_none=True)
        if self._callback is not None and self._callback.random is not None:
            restore_random(self._callback.random)  # the step that failed has drawn already
        try:
            self.trainer._save_checkpoint(self.trainer.model, None)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError, OSError):
            return kept
        if self._folder.is_main:
            self._folder.mark_complete(self.step)
        return f"the checkpoint of step {self.step} is kept"

    def save(self, folder: Path) -> None:
        """Write the model; all processes hold a part of it."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        write_model(model, folder, write=self.trainer.save_model, main=self._folder.is_main)

    def wait(self) -> None:
        """Wait for all processes."""
        self.trainer.accelerator.wait_for_everyone()

    def _agree(self, mine: bool) -> bool:
        """Whether any process agrees; see `TrlCallback`."""
        accelerator = self.trainer.accelerator
        if accelerator.num_processes == 1:
            return mine
        mark = torch.tensor(float(mine), device=accelerator.device)
        return bool(accelerator.reduce(mark, reduction="sum").item() > 0)

    def _sample(self, watch: Watch) -> None:
        """Show replies, if they are due after this step."""
        wanted = self._samples
        if wanted is None or not wanted.prompts or not wanted.every or self.step % wanted.every:
            return
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        replies = sample_replies(
            model,
            self.trainer.processing_class,
            wanted.prompts,
            max_tokens=wanted.max_tokens,
            scorer=wanted.scorer,
        )
        watch.show(self.step, replies)


def _evaluate(trainer: Any) -> dict[str, float]:
    """Measure on the held-out rows, under the names used in training."""
    if trainer.eval_dataset is None:
        return {}
    return held_out_figures(trainer.evaluate(), prefix="")
