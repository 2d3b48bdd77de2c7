import re
from typing import Any

import pytest
import torch

from rlaif.training.memory import is_out_of_memory, memory_hint


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_ran_out_is_recognised_however_it_is_said(problem: BaseException):
    assert is_out_of_memory(problem)


@pytest.mark.parametrize("problem", [RuntimeError("shapes differ"), OSError("out of memory")])
def test_other_problems_are_not(problem: BaseException):
    assert not is_out_of_memory(problem)


@pytest.mark.parametrize("kind", ["ppo", "rloo", "grpo", "sft", "dpo", "reward"])
def test_a_hint_names_settings_that_the_trainer_has(kind: str):
    from rlaif.config import ppo, train

    settings: dict[str, Any] = {
        "ppo": ppo.PpoConfig,
        "rloo": ppo.RlooConfig,
        "grpo": ppo.GrpoConfig,
        "sft": train.SftConfig,
        "dpo": train.DpoConfig,
        "reward": train.RewardConfig,
    }
    words = re.findall(r"\w+", memory_hint(kind))
    named = {word for word in words if "_" in word or word in ("accumulate", "lora")}
    assert "gradient_checkpointing" in named
    assert named <= settings[kind].model_fields.keys()
