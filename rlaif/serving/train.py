"""Trainings with the scorer that their file names: rules, reward models or judges.

PPO, RLOO and GRPO learn from it; SFT and DPO only measure their samples with it.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlaif.config.online import GrpoConfig, OnlineConfig, RlooConfig
from rlaif.config.ppo import PpoConfig
from rlaif.config.train import DpoConfig, SftConfig, TrainConfig
from rlaif.errors import InputError
from rlaif.serving.scorer import opened_scorer
from rlaif.training import online, sft
from rlaif.training.data.prompts import AnyPrompt
from rlaif.training.dpo import train as dpo
from rlaif.training.harness.folder import TrainResult
from rlaif.training.harness.inputs import Said, read_settings
from rlaif.training.harness.progress import Style
from rlaif.training.ppo import train
from rlaif.training.scorers import Scorer


def train_ppo(
    config: Said = None,
    *,
    scorer: Scorer | None = None,
    prompts: Sequence[AnyPrompt] | None = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    style: Style = "quiet",
    **overrides: Any,
) -> TrainResult:
    """Train a policy with proximal policy optimisation; repeat the call to resume.

    Args:
        config: A training file, a mapping or settings; see `rlaif.config.ppo.PpoConfig`.
        scorer: Any scorer (`rlaif.training.scorers`), in place of the file's ``reward``.
        prompts: `Prompt` records, strings or lists of chat messages, in place of the file's.
        model: The policy to start from: a shipped name, a folder or a hub id.
        out: Receives the policy in transformers format, metrics, samples, curves and model card.
        force: Start over, removing what an earlier training left in ``out``.
        style: How progress is shown.
        **overrides: Single settings, such as ``rollouts=20`` or ``reward={"rules": "concise"}``.

    Raises:
        InputError: Settings, model, prompts or reward cannot be used; nothing was started.
        RunMismatch: ``out`` holds a training with other settings, model, prompts or reward.
        TrainingError: The scorer failed or memory ran out; what was reached is saved in ``out``.
        KeyboardInterrupt: Stopped on request; saved after the rollout under way.
    """
    named = {"model": model, "out": out, "prompts": prompts, "force": force, "style": style}
    return _train(train.train_ppo, PpoConfig, config, scorer, {**overrides, **named})


def train_rloo(
    config: Said = None, *, scorer: Scorer | None = None, **arguments: Any
) -> TrainResult:
    """Train a policy with RLOO. Arguments, resuming and errors are those of `train_ppo`."""
    return _train(online.train_rloo, RlooConfig, config, scorer, arguments)


def train_grpo(
    config: Said = None, *, scorer: Scorer | None = None, **arguments: Any
) -> TrainResult:
    """Train a policy with GRPO. Arguments, resuming and errors are those of `train_ppo`."""
    return _train(online.train_grpo, GrpoConfig, config, scorer, arguments)


def train_sft(
    config: Said = None, *, scorer: Scorer | None = None, **arguments: Any
) -> TrainResult:
    """`rlaif.training.sft.train_sft`, with the scorer that ``samples.reward`` names."""
    return _train_on_rows(sft.train_sft, SftConfig, config, scorer, arguments)


def train_dpo(
    config: Said = None, *, scorer: Scorer | None = None, **arguments: Any
) -> TrainResult:
    """`rlaif.training.dpo.train.train_dpo`, with the scorer that ``samples.reward`` names."""
    return _train_on_rows(dpo.train_dpo, DpoConfig, config, scorer, arguments)


def _train_on_rows(
    train: Callable[..., TrainResult],
    kind: type[TrainConfig],
    config: Said,
    scorer: Scorer | None,
    arguments: dict[str, Any],
) -> TrainResult:
    call = {name: arguments.pop(name) for name in (*_CALL, "dataset") if name in arguments}
    settings = read_settings(kind, config, arguments)
    reward = settings.samples.reward
    if scorer is not None or reward is None:
        return train(settings, scorer=scorer, **call)
    rank = int(os.environ.get("RANK", "0"))
    with opened_scorer(reward, rank=rank) as opened:
        return train(settings, scorer=opened.scorer, **call)


_CALL = ("prompts", "force", "style")
"""Arguments that are not settings."""


def _train(
    train: Callable[..., TrainResult],
    kind: type[OnlineConfig],
    config: Said,
    scorer: Scorer | None,
    arguments: dict[str, Any],
) -> TrainResult:
    call = {name: arguments.pop(name) for name in _CALL if name in arguments}
    settings = read_settings(kind, config, arguments)
    if scorer is not None:
        return train(settings, scorer=scorer, **call)
    if settings.reward is None:
        raise InputError("reward is missing", hint="set it in the file, or pass a scorer")
    rank = int(os.environ.get("RANK", "0"))
    with opened_scorer(
        settings.reward, settings.length_penalty, rank=rank, ask_first=True
    ) as opened:
        return train(settings, scorer=opened.scorer, **call)
