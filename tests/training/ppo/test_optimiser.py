import math
from typing import Any

import pytest
import torch
from torch import nn

from rlaif.config.train import OptimiserSettings
from rlaif.training.ppo.distributed import Distributed
from rlaif.training.ppo.optimiser import Optimiser, learning_rate

CONSTANT = OptimiserSettings(schedule="constant", warmup=0.0)


def rates(peak: float, steps: int, **said: Any) -> list[float]:
    settings = OptimiserSettings(**{"warmup": 0.0, **said})
    return [learning_rate(settings, peak=peak, step=n, steps=steps) for n in range(steps + 1)]


def test_the_linear_schedule_rises_then_falls_to_nothing():
    found = rates(1.0, 10, schedule="linear", warmup=0.2)
    assert found[:2] == pytest.approx([1 / 3, 2 / 3])
    assert found[2] == 1.0
    assert found[6] == pytest.approx(0.5)
    assert found[10] == 0.0


def test_the_cosine_schedule_ends_at_a_tenth():
    found = rates(1.0, 10, schedule="cosine")
    assert found[0] == 1.0
    assert found[5] == pytest.approx(0.55)
    assert found[10] == pytest.approx(0.1)


def test_the_constant_schedule_stays():
    assert set(rates(0.3, 4, schedule="constant")) == {0.3}


def one_step(max_grad_norm: float) -> tuple[float, float]:
    parameter = nn.Parameter(torch.zeros(2))
    optimiser = Optimiser(
        {"p": parameter},
        peak=0.1,
        steps=1,
        settings=CONSTANT.model_copy(update={"max_grad_norm": max_grad_norm}),
    )
    parameter.grad = torch.tensor([3.0, 4.0])
    norm, _ = optimiser.step(0, Distributed())
    # Adam's first step divides by its own size; ε = 1e-5 shows how small the gradient had become.
    return norm, parameter.abs().max().item()


def test_max_grad_norm_takes_effect():
    norm, moved = one_step(1e-6)
    assert norm == pytest.approx(5.0)  # what is reported is the norm before clipping
    clipped = 1e-6 * 4 / 5
    assert moved == pytest.approx(0.1 * clipped / (clipped + 1e-5), rel=1e-3)
    _, free = one_step(100.0)
    assert free == pytest.approx(0.1, rel=1e-4)


def test_a_gradient_that_is_nan_changes_nothing():
    parameter = nn.Parameter(torch.ones(2))
    optimiser = Optimiser({"p": parameter}, peak=0.1, steps=1, settings=CONSTANT)
    parameter.grad = torch.tensor([math.nan, 1.0])
    norm, _ = optimiser.step(0, Distributed())
    assert math.isnan(norm)
    assert parameter.tolist() == [1.0, 1.0]
    assert parameter.grad is None
