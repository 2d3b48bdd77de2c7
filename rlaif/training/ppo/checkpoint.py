"""Checkpoints: everything a resumed training needs to take the very steps it would have taken.

A checkpoint counts once its marker ``complete.json`` is written, last. Tensors are
safetensors, the rest is JSON; nothing is pickled, so a checkpoint from a stranger runs no code.

    checkpoint-25/                                    the number of finished rollouts
      policy.safetensors, critic.safetensors          trained weights, by parameter name
      policy.{mean,square}.safetensors, critic.…      Adam's moments
      rng.safetensors                                 torch's generators, for scorers that use them
      state.json                                      position, KL control, score statistics
"""

import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlaif.errors import RunMismatch, TrainingError
from rlaif.training.harness.folder import TrainingFolder
from rlaif.training.ppo.advantages import RunningMoments
from rlaif.training.ppo.losses import KlControl
from rlaif.training.ppo.optimiser import Optimiser

_MOMENTS = {"mean": "exp_avg", "square": "exp_avg_sq"}


@dataclass(frozen=True, slots=True)
class State:
    """The position of a training; with weights, settings and prompts it determines the rest."""

    kl: KlControl
    rollout: int = 0
    """Rollouts finished; also the position in the prompts and in the schedules."""

    moments: RunningMoments = field(default_factory=RunningMoments)
    responses: int = 0
    unscored: int = 0
    torn: bool = False
    """An update was interrupted half-way and its rollout made again: a fine policy, but not the
    one an uninterrupted training would have had."""


def save_checkpoint(
    folder: TrainingFolder, state: State, optimisers: Mapping[str, Optimiser]
) -> None:
    """Write a checkpoint, then remove the ones before it.

    Args:
        folder: The training's.
        state: Where it stands.
        optimisers: ``policy`` and ``critic``.
    """
    target = folder.checkpoints / f"checkpoint-{state.rollout}"
    staging = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    steps: dict[str, dict[str, float]] = {}
    for role, optimiser in optimisers.items():
        _write(staging / f"{role}.safetensors", dict(optimiser.parameters))
        adam = optimiser.adamw.state
        trained = {n: p for n, p in optimiser.parameters.items() if p in adam}
        for name, key in _MOMENTS.items():
            moments = {n: adam[p][key] for n, p in trained.items()}
            _write(staging / f"{role}.{name}.safetensors", moments)
        steps[role] = {n: float(adam[p]["step"]) for n, p in trained.items()}
    _write(staging / "rng.safetensors", _generators())
    with (staging / "state.json").open("w", encoding="utf-8") as file:
        json.dump(
            {"state": asdict(state), "adam_steps": steps, "python_random": random.getstate()}, file
        )
        file.flush()
        os.fsync(file.fileno())
    if target.exists():
        shutil.rmtree(target)
    staging.rename(target)
    folder.mark_complete(state.rollout)
    for older in folder.checkpoints.glob("checkpoint-*"):
        if older != target:
            shutil.rmtree(older)


def load_checkpoint(path: Path, optimisers: Mapping[str, Optimiser]) -> State:
    """Put a checkpoint's tensors in place and return where the training stands.

    Raises:
        RunMismatch: It belongs to another model.
        TrainingError: It is damaged.
    """
    try:
        described = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise TrainingError(f"{path}: the checkpoint is damaged: {problem}") from problem
    for role, optimiser in optimisers.items():
        _restore(path, role, optimiser, described["adam_steps"][role])
    _restore_generators(_read(path / "rng.safetensors"), described["python_random"])
    state = described["state"]
    kl, moments = KlControl(**state.pop("kl")), RunningMoments(**state.pop("moments"))
    return State(kl=kl, moments=moments, **state)


def _restore(folder: Path, role: str, optimiser: Optimiser, steps: Mapping[str, float]) -> None:
    weights = _read(folder / f"{role}.safetensors")
    if weights.keys() != optimiser.parameters.keys():
        raise RunMismatch(f"{folder}: its {role} has other parameters than the model")
    with torch.no_grad():
        for name, parameter in optimiser.parameters.items():
            parameter.copy_(weights[name])
    moments = {key: _read(folder / f"{role}.{file}.safetensors") for file, key in _MOMENTS.items()}
    optimiser.adamw.state.clear()
    for name, step in steps.items():
        parameter = optimiser.parameters[name]
        optimiser.adamw.state[parameter] = {
            "step": torch.tensor(step, device=parameter.device),
            **{key: tensors[name].to(parameter.device) for key, tensors in moments.items()},
        }


def _generators() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_generators(states: Mapping[str, Tensor], python: Any) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    version, numbers, gauss = python
    random.setstate((version, tuple(numbers), gauss))


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as problem:
        raise TrainingError(f"{path}: the checkpoint is damaged: {problem}") from problem
