"""One AdamW per model, its learning rate given at every step and its gradients really clipped."""

import math

import torch
from torch import nn

from rlaif.config.train import OptimiserSettings
from rlaif.training.harness.stopping import Diverged
from rlaif.training.ppo.distributed import Distributed

_EPS = 1e-5
"""As in lm-human-preferences; the usual 1e-8 makes the first steps after sparse gradients jump."""


def learning_rate(settings: OptimiserSettings, *, peak: float, step: int, steps: int) -> float:
    """Return the rate of a step: nothing to save, nothing to load.

    After the warm-up it runs straight down to 0, along a cosine to a tenth, or stays level.

    Args:
        settings: The kind of schedule, and its warm-up.
        peak: The highest rate.
        step: Its number, from 0.
        steps: Steps *planned* in all, ≥ 1; a policy that rests for a while does not lag behind.
    """
    rising = settings.warmup * steps
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    done = min((step - rising) / max(steps - rising, 1.0), 1.0)
    match settings.schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1.0 - done)
        case "cosine":
            return peak * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done)))


class Optimiser:
    """AdamW over named parameters.

    Args:
        parameters: What to train, by name; the names are what a checkpoint is written with.
        peak: The highest learning rate.
        steps: Planned in all, ≥ 1.
        settings: Schedule, weight decay (decoupled), bound of the gradient's global norm.
    """

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        *,
        peak: float,
        steps: int,
        settings: OptimiserSettings,
    ) -> None:
        self.parameters = parameters
        self._peak = peak
        self._steps = steps
        self._settings = settings
        self.adamw = torch.optim.AdamW(
            parameters.values(), lr=0.0, eps=_EPS, weight_decay=settings.weight_decay, fused=True
        )

    def step(self, number: int, world: Distributed) -> tuple[float, float]:
        """Sum gradients over processes, clip, step, throw them away.

        A gradient that is not finite is thrown away without a step.

        Returns:
            The norm before clipping, and the learning rate.
        """
        rate = learning_rate(self._settings, peak=self._peak, step=number, steps=self._steps)
        world.add_up_gradients(self.parameters.values())
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self._settings.max_grad_norm)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        if torch.isfinite(norm):
            self.adamw.step()
        self.clear()
        return float(norm), rate

    def check(self) -> None:
        """Make sure that all weights are finite.

        Raises:
            Diverged: Some are not.
        """
        if not all(bool(p.detach().isfinite().all()) for p in self.parameters.values()):
            raise Diverged(
                "some weights are NaN or infinite",
                hint="lower learning_rate or critic_learning_rate; the last checkpoint is kept",
            )

    def clear(self) -> None:
        """Throw gradients away, memory included."""
        self.adamw.zero_grad(set_to_none=True)
