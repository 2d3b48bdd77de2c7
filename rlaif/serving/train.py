"""PPO, RLOO and GRPO with the reward that their training file names: rules, models or judges."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlaif.config.online import GrpoConfig, OnlineConfig, RlooConfig
from rlaif.config.ppo import PpoConfig
from rlaif.errors import InputError
from rlaif.serving.scorer import opened_scorer
from rlaif.training import online, ppo
from rlaif.training.data.prompts import AnyPrompt
from rlaif.training.harness.folder import TrainResult
from rlaif.training.harness.progress import Style
from rlaif.training.harness.settings import Said, read_settings
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
        KeyboardInterrupt: Asked to stop; saved after the rollout that was going on.
    """
    settings = read_settings(PpoConfig, config, overrides, model=model, out=out)
    return _train(ppo.train_ppo, settings, scorer, prompts=prompts, force=force, style=style)


def train_rloo(
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
    """Train a policy with RLOO. Arguments, resuming and errors are those of `train_ppo`."""
    settings = read_settings(RlooConfig, config, overrides, model=model, out=out)
    return _train(online.train_rloo, settings, scorer, prompts=prompts, force=force, style=style)


def train_grpo(
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
    """Train a policy with GRPO. Arguments, resuming and errors are those of `train_ppo`."""
    settings = read_settings(GrpoConfig, config, overrides, model=model, out=out)
    return _train(online.train_grpo, settings, scorer, prompts=prompts, force=force, style=style)


def _train(
    train: Callable[..., TrainResult], settings: OnlineConfig, scorer: Scorer | None, **named: Any
) -> TrainResult:
    if scorer is not None:
        return train(settings, scorer=scorer, **named)
    if settings.reward is None:
        raise InputError("reward is missing", hint="name one in the file, or give a scorer")
    rank = int(os.environ.get("RANK", "0"))
    with opened_scorer(settings.reward, settings.length_penalty, rank=rank) as opened:
        return train(settings, scorer=opened.scorer, **named)
