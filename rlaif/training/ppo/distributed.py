"""Data-parallel processes: each holds whole models, gradients are summed once per optimiser step.

Losses are divided by the *global* number of tokens before the backward pass, so the sum over
processes is the gradient of the whole minibatch, and one process or eight take the same step.
No wrapper stands around the models, so nothing has to be unwrapped to generate or to save.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rlaif.errors import InputError

_BUCKET = 2**25
"""Numbers summed at once: 128 MiB in fp32, large enough to be bound by bandwidth."""


@dataclass(frozen=True, slots=True)
class Distributed:
    """This process among all; the default is the only one."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def owns(self, item: int) -> bool:
        """Whether this process works on the item with this number; dealt out in turn."""
        return item % self.size == self.rank

    def add_up(self, tensor: Tensor) -> Tensor:
        """Return the sum over processes, on the tensor's own device."""
        if self.size == 1:
            return tensor
        total = tensor.detach().to(self.device, copy=True)
        torch.distributed.all_reduce(total)
        return total.to(tensor.device)

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over processes; none counts as zero."""
        if self.size == 1:
            return
        for bucket in _buckets(list(parameters)):
            for parameter in bucket:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            grads = [parameter.grad for parameter in bucket if parameter.grad is not None]
            flat = torch.cat([grad.flatten() for grad in grads])
            torch.distributed.all_reduce(flat)
            parts = torch.split(flat, [grad.numel() for grad in grads])
            for grad, part in zip(grads, parts, strict=True):
                grad.copy_(part.view_as(grad))

    def agree(self, mine: bool) -> bool:
        """Return whether any process said yes."""
        return bool(self.add_up(torch.tensor(float(mine))) > 0)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            torch.distributed.barrier()


def join_processes() -> Distributed:
    """Join the processes that a launcher started (torchrun, accelerate launch), or stand alone.

    Raises:
        InputError: The launcher shards models, which PPO does not support.
    """
    for name in ("FSDP", "DEEPSPEED"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            raise InputError(
                f"PPO needs whole models, but the launcher is set to shard them with {name}",
                hint="launch with ddp; with lora one base is all there is in memory",
            )
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Distributed(state.process_index, state.num_processes, state.device)


def _buckets(parameters: list[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    numbers = 0
    for parameter in parameters:
        if bucket and numbers + parameter.numel() > _BUCKET:
            yield bucket
            bucket, numbers = [], 0
        bucket.append(parameter)
        numbers += parameter.numel()
    if bucket:
        yield bucket
