import re
import subprocess
import sys
from typing import Any

import pytest
import torch

from rlaif.training.harness.stopping import is_out_of_memory, memory_hint

FAULTS = """
import resource
import torch
from rlaif.training.models import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
by_default = faults()
keep_freed_memory()
print(by_default, [faults() for _ in range(20)][-1])  # a few times it takes some more
"""


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


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted on Linux")
def test_memory_that_was_freed_is_taken_again_without_asking_the_system():
    """In its own process, because malloc keeps its settings."""
    found = subprocess.run(
        [sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True, timeout=120
    )
    by_default, kept = map(int, found.stdout.split())
    assert by_default > 10_000  # 64 MiB are 16,384 pages
    assert kept < 100


@pytest.mark.parametrize("kind", ["ppo", "rloo", "grpo", "sft", "dpo", "reward"])
def test_a_hint_names_settings_that_the_trainer_has(kind: str):
    from rlaif.config import online, ppo, train

    settings: dict[str, Any] = {
        "ppo": ppo.PpoConfig,
        "rloo": online.RlooConfig,
        "grpo": online.GrpoConfig,
        "sft": train.SftConfig,
        "dpo": train.DpoConfig,
        "reward": train.RewardConfig,
    }
    words = re.findall(r"\w+", memory_hint(kind))
    named = {word for word in words if "_" in word or word in ("accumulate", "lora")}
    assert "gradient_checkpointing" in named
    assert named <= settings[kind].model_fields.keys()
