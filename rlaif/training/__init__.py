"""Training: datasets in, checkpoint out. Never imports engines, judging or the pipeline.

Names load on first use, so that importing this room loads neither torch nor transformers.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rlaif.errors import EngineMissing

if TYPE_CHECKING:
    from rlaif.config.train import LoraSettings
    from rlaif.training.data.read import load_demonstrations, load_preferences
    from rlaif.training.dpo.train import train_dpo
    from rlaif.training.harness.folder import TrainResult
    from rlaif.training.models import load_policy, load_scorer
    from rlaif.training.online import train_grpo, train_rloo
    from rlaif.training.ppo.train import train_ppo
    from rlaif.training.reward.train import train_reward
    from rlaif.training.sft import train_sft

__all__ = [
    "LoraSettings",
    "TrainResult",
    "load_demonstrations",
    "load_policy",
    "load_preferences",
    "load_scorer",
    "train_dpo",
    "train_grpo",
    "train_ppo",
    "train_reward",
    "train_rloo",
    "train_sft",
]

_HOMES = {
    "LoraSettings": "rlaif.config.train",
    "TrainResult": "rlaif.training.harness.folder",
    "load_demonstrations": "rlaif.training.data.read",
    "load_policy": "rlaif.training.models",
    "load_preferences": "rlaif.training.data.read",
    "load_scorer": "rlaif.training.models",
    "train_dpo": "rlaif.training.dpo.train",
    "train_grpo": "rlaif.training.online",
    "train_ppo": "rlaif.training.ppo.train",
    "train_reward": "rlaif.training.reward.train",
    "train_rloo": "rlaif.training.online",
    "train_sft": "rlaif.training.sft",
}


def __getattr__(name: str) -> Any:
    """Import a name from where it lives.

    Raises:
        EngineMissing: The libraries for training are not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as problem:
        if (problem.name or "").startswith("rlaif"):
            raise
        raise EngineMissing(
            f"training needs {problem.name}, which is not installed",
            hint="pip install 'constitutional-rlaif[train]'",
        ) from problem
