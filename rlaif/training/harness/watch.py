"""The watch: what happens beside a transformers Trainer's loop, between its steps."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from rlaif.errors import TrainingError
from rlaif.training.data.sampler import begin_epoch
from rlaif.training.harness.folder import TrainingFolder
from rlaif.training.harness.metrics import MetricsLog
from rlaif.training.harness.progress import Sample, Style, TrainingProgress, keep_samples

_FIRST = ("loss", "rewards/margins", "accuracy", "learning_rate", "grad_norm")
"""Shown first, where measured."""

_DIVERGED = "lower learning_rate or raise beta; the last checkpoint is kept"


RandomStates = tuple[Any, Any, Tensor, list[Tensor]]
"""Of Python, numpy, torch, and torch on each GPU."""


class TrainingWatch(TrainerCallback):
    """Logs, shows, samples, marks checkpoints whole; stops when asked to, or when it diverged.

    Args:
        folder: Where the training lives.
        log: Where metrics go.
        asked: Whether to stop; all processes must get the same answer.
        style: How progress is shown, on the main process.
        sample: Draws replies of the policy.
        sample_every: Steps between them; 0 for none.
        stop_every: Steps between the places where it may stop: those of a rollout, whose responses
            no checkpoint holds.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        log: MetricsLog,
        asked: Callable[[], bool],
        *,
        style: Style,
        sample: Callable[[], list[Sample]] | None = None,
        sample_every: int = 0,
        stop_every: int = 1,
    ) -> None:
        self._folder = folder
        self._log = log
        self._asked = asked
        self.broken: Callable[[], bool] = lambda: False
        """Whether any weight is no number; all processes must get the same answer."""

        self._style: Style = style if folder.is_main else "quiet"
        self._sample = sample
        self._sample_every = sample_every
        self._stop_every = stop_every
        self.random: RandomStates | None = None
        """The generators as the last finished step left them."""

        self.progress = TrainingProgress(0)
        self.in_optimiser = False
        """True while weights are being changed: nothing may be saved then."""

        self.last: dict[str, float] = {}

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the display, now that the number of steps is known."""
        self.progress = TrainingProgress(state.max_steps, done=state.global_step, style=self._style)
        self.progress.__enter__()

    @override
    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Choose the epoch's order, also where the libraries cannot reach the sampler."""
        begin_epoch(kwargs.get("train_dataloader"), int(state.epoch or 0))

    @override
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop the display."""
        self.close()

    @override
    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Weights are about to change."""
        self.in_optimiser = True

    @override
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Weights are whole again: the moment to sample, or to stop if that was asked.

        Raises:
            TrainingError: Weights that are no numbers were about to be saved.
        """
        self.in_optimiser = False
        self.random = random_states()
        due = self._sample_every and state.global_step % self._sample_every == 0
        if due and self._sample is not None:
            samples = self._sample()
            if self._folder.is_main:
                keep_samples(self._folder.out, state.global_step, samples)
            self.progress.show_samples(state.global_step, samples)
        if state.global_step % self._stop_every == 0 and self._asked():
            control.should_save = True
            control.should_training_stop = True
        if control.should_save and self.broken():
            raise TrainingError(
                f"step {state.global_step}: some weights are no numbers any more", hint=_DIVERGED
            )

    @override
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep and show what was measured.

        Raises:
            TrainingError: The loss is no longer a number.
        """
        measured = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if "loss" not in measured:
            return  # the summary at the end, and what is measured on held-out rows
        values = {name: measured[name] for name in _FIRST if name in measured} | measured
        self._log.write(state.global_step, values)
        self.last |= values
        self.progress.update(state.global_step, values)
        if not math.isfinite(values["loss"]):
            raise TrainingError(
                f"step {state.global_step}: the loss is {values['loss']}",
                hint=_DIVERGED,
            )

    @override
    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Everything of the checkpoint is written: say so."""
        if self._folder.is_main:
            self._folder.mark_complete(state.global_step)

    def close(self) -> None:
        """Stop the display; safe to call twice."""
        self.progress.__exit__(None, None, None)


def all_finite(model: torch.nn.Module) -> bool:
    """Whether all trained weights that this process holds are numbers."""
    trained = (p.detach() for p in model.parameters() if p.requires_grad)
    local = (p.to_local() if isinstance(p, DTensor) else p for p in trained)
    return all(bool(p.isfinite().all()) for p in local)


def random_states() -> RandomStates:
    """Return where the generators stand."""
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy = np.random.get_state()  # noqa: NPY002 - the one that libraries draw from
    return random.getstate(), numpy, torch.get_rng_state(), on_gpus


def restore_random(states: RandomStates) -> None:
    """Put the generators back to where they stood."""
    python, numpy, cpu, on_gpus = states
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(cpu)
    if on_gpus:
        torch.cuda.set_rng_state_all(on_gpus)
