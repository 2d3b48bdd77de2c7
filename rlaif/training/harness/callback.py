"""What happens between the steps of a transformers Trainer: it feeds the watch."""

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

from rlaif.training.data.sampler import begin_epoch
from rlaif.training.harness.figures import HELD_OUT
from rlaif.training.harness.folder import TrainingFolder
from rlaif.training.harness.metrics import Watch
from rlaif.training.harness.stopping import Diverged

_FIRST = ("loss", "rewards/margins", "accuracy", "learning_rate", "grad_norm")
"""Shown first, where measured."""

_DIVERGED = "lower learning_rate or raise beta; the last checkpoint is kept"

RandomStates = tuple[Any, Any, Tensor, list[Tensor]]
"""Of Python, numpy, torch, and torch on each GPU."""


class TrlCallback(TrainerCallback):
    """Feeds the watch, marks checkpoints whole, stops on request or when training diverged.

    Args:
        folder: The training's.
        watch: What is fed.
        model: Its weights are checked before they are saved.
        agree: Whether any process said yes: if only one stopped, the others would wait for it.
        sample: Shows replies of the policy, where they are due.
        stop_every: Steps between the places where it may stop: those of a rollout, whose responses
            no checkpoint holds.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        watch: Watch,
        model: torch.nn.Module,
        *,
        agree: Callable[[bool], bool],
        sample: Callable[[], None],
        stop_every: int,
    ) -> None:
        self._folder = folder
        self._watch = watch
        self._model = model
        self._agree = agree
        self._sample = sample
        self._stop_every = stop_every
        self.random: RandomStates | None = None
        """The generators as the last finished step left them."""

        self.in_optimiser = False
        """True while weights are being changed: nothing may be saved then."""

        self.stopped = False
        """A stop was requested and carried out."""

        self._training = False

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the display, now that the number of steps is known."""
        self._watch.begin(state.max_steps)
        self._training = True

    @override
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What is measured from now on is the result, no point of a curve."""
        self._training = False

    @override
    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Choose the epoch's order, also where the libraries cannot reach the sampler."""
        begin_epoch(kwargs.get("train_dataloader"), int(state.epoch or 0))

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
        """Weights are whole again: sample, or stop if that was requested.

        Raises:
            Diverged: Weights that are NaN or infinite were about to be saved.
        """
        self.in_optimiser = False
        self.random = random_states()
        self._sample()
        if state.global_step % self._stop_every == 0 and self._agree(self._watch.stopping()):
            control.should_save = True
            control.should_training_stop = True
            self.stopped = True
        if control.should_save and self._agree(not all_finite(self._model)):
            raise Diverged(
                f"step {state.global_step}: some weights are NaN or infinite", hint=_DIVERGED
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
            Diverged: The loss is NaN or infinite.
        """
        measured = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if self._training and "eval_loss" in measured:
            self._watch.add(state.global_step, held_out_figures(measured))
        if "loss" not in measured:
            return  # the summary at the end
        values = {name: measured[name] for name in _FIRST if name in measured} | measured
        self._watch.add(state.global_step, values)
        if not math.isfinite(values["loss"]):
            raise Diverged(
                f"step {state.global_step}: the loss is {values['loss']}", hint=_DIVERGED
            )

    @override
    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark the checkpoint as complete."""
        if self._folder.is_main:
            self._folder.mark_complete(state.global_step)


_ABOUT_TIME = ("runtime", "samples_per_second", "steps_per_second", "num_tokens")


def held_out_figures(measured: Mapping[str, Any], prefix: str = HELD_OUT) -> dict[str, float]:
    """Return what a Trainer measured on held-out rows, under the names used in training."""
    names = {key: key.removeprefix("eval_") for key in measured if key.startswith("eval_")}
    return {
        prefix + name: float(measured[key])
        for key, name in names.items()
        if name not in _ABOUT_TIME
    }


def all_finite(model: torch.nn.Module) -> bool:
    """Whether all trained weights that this process holds are finite."""
    trained = (p.detach() for p in model.parameters() if p.requires_grad)
    local = (p.to_local() if isinstance(p, DTensor) else p for p in trained)
    return all(bool(p.isfinite().all()) for p in local)


def random_states() -> RandomStates:
    """Return the states of the random generators."""
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy = np.random.get_state()  # noqa: NPY002 - the one that libraries draw from
    return random.getstate(), numpy, torch.get_rng_state(), on_gpus


def restore_random(states: RandomStates) -> None:
    """Restore the random generators."""
    python, numpy, cpu, on_gpus = states
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(cpu)
    if on_gpus:
        torch.cuda.set_rng_state_all(on_gpus)
