"""One AdamW per model, its learning rate given at every step and its gradients really clipped."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from rlaif.errors import TrainingError
from rlaif.training.ppo.world import World

_EPS = 1e-5
"""As in lm-human-preferences; the usual 1e-8 makes the first steps after sparse gradients jump."""


class Diverged(TrainingError):  # noqa: N818 - reads like its siblings in rlaif.errors
    """Weights are beyond repair; unlike with all else that stops a training, they are not saved."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A learning rate as a function of how many steps are done: nothing to save, nothing to load.

    Steps are those *planned*; a policy that rests for a while does not lag behind.
    """

    peak: float
    steps: int
    """Planned steps in all, ≥ 1."""

    kind: Literal["linear", "cosine", "constant"] = "linear"
    """After the warm-up: straight down to 0, along a cosine to a tenth, or level."""

    warmup: float = 0.0
    """Share of the steps during which the rate rises from nothing to its peak."""

    def rate(self, step: int) -> float:
        """Return the rate of the step with this number, from 0."""
        rising = self.warmup * self.steps
        if step < rising:
            return self.peak * (step + 1) / (rising + 1)
        done = min((step - rising) / max(self.steps - rising, 1.0), 1.0)
        match self.kind:
            case "constant":
                return self.peak
            case "linear":
                return self.peak * (1.0 - done)
            case "cosine":
                return self.peak * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done)))


class Optimiser:
    """AdamW over named parameters.

    Args:
        parameters: What to train, by name; the names are what a checkpoint is written with.
        schedule: The learning rate.
        weight_decay: Decoupled, ≥ 0.
        max_grad_norm: Bound of the global norm of a step's gradient, > 0.
    """

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        *,
        schedule: Schedule,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
    ) -> None:
        self.parameters = parameters
        self._schedule = schedule
        self._max_grad_norm = max_grad_norm
        self.adamw = torch.optim.AdamW(
            parameters.values(), lr=0.0, eps=_EPS, weight_decay=weight_decay, fused=True
        )

    def step(self, number: int, world: World) -> tuple[float, float]:
        """Sum gradients over processes, clip, step, throw them away.

        A gradient that is not finite is thrown away without a step.

        Returns:
            The norm before clipping, and the learning rate.
        """
        rate = self._schedule.rate(number)
        world.add_up_gradients(self.parameters.values())
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self._max_grad_norm)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        if torch.isfinite(norm):
            self.adamw.step()
        self.clear()
        return float(norm), rate

    def check(self) -> None:
        """Make sure that all weights are numbers.

        Raises:
            Diverged: Some are not.
        """
        if not all(bool(p.detach().isfinite().all()) for p in self.parameters.values()):
            raise Diverged(
                "some weights are no numbers any more",
                hint="lower learning_rate or critic_learning_rate; the last checkpoint is kept",
            )

    def clear(self) -> None:
        """Throw gradients away, memory included."""
        self.adamw.zero_grad(set_to_none=True)
