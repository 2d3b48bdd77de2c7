import math

import pytest
import torch
from torch import nn

from rlaif.training.ppo.optimiser import Optimiser, Schedule
from rlaif.training.ppo.world import World


def test_the_linear_schedule_rises_then_falls_to_nothing():
    schedule = Schedule(1.0, steps=10, kind="linear", warmup=0.2)
    rates = [schedule.rate(step) for step in range(11)]
    assert rates[:2] == pytest.approx([1 / 3, 2 / 3])
    assert rates[2] == 1.0
    assert rates[6] == pytest.approx(0.5)
    assert rates[10] == 0.0


def test_the_cosine_schedule_ends_at_a_tenth():
    schedule = Schedule(1.0, steps=10, kind="cosine")
    assert schedule.rate(0) == 1.0
    assert schedule.rate(5) == pytest.approx(0.55)
    assert schedule.rate(10) == pytest.approx(0.1)


def test_the_constant_schedule_stays():
    schedule = Schedule(0.3, steps=4, kind="constant")
    assert {schedule.rate(step) for step in range(5)} == {0.3}


def one_step(max_grad_norm: float) -> tuple[float, float]:
    parameter = nn.Parameter(torch.zeros(2))
    optimiser = Optimiser(
        {"p": parameter},
        schedule=Schedule(0.1, 1, "constant"),
        max_grad_norm=max_grad_norm,
    )
    parameter.grad = torch.tensor([3.0, 4.0])
    norm, _ = optimiser.step(0, World())
    # Adam's first step divides by its own size; ε = 1e-5 shows how small the gradient had become.
    return norm, parameter.abs().max().item()


def test_max_grad_norm_takes_effect():
    norm, moved = one_step(1e-6)
    assert norm == pytest.approx(5.0)  # what is reported is the norm before clipping
    clipped = 1e-6 * 4 / 5
    assert moved == pytest.approx(0.1 * clipped / (clipped + 1e-5), rel=1e-3)
    _, free = one_step(100.0)
    assert free == pytest.approx(0.1, rel=1e-4)


def test_a_gradient_that_is_no_number_changes_nothing():
    parameter = nn.Parameter(torch.ones(2))
    optimiser = Optimiser({"p": parameter}, schedule=Schedule(0.1, 1, "constant"))
    parameter.grad = torch.tensor([math.nan, 1.0])
    norm, _ = optimiser.step(0, World())
    assert math.isnan(norm)
    assert parameter.tolist() == [1.0, 1.0]
    assert parameter.grad is None
