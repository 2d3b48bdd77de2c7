"""`rlaif train ppo|rloo|grpo`: prompts and a scorer are named in the file, and read here."""

import os
import sys
from collections.abc import Callable
from typing import Any

from rlaif.cli.output import print
from rlaif.config.ppo import GrpoFile, OnlineFile, PpoFile, RlooFile
from rlaif.config.run import PromptsConfig
from rlaif.inputs import PromptSource, read_prompts
from rlaif.records import Prompt


def train_ppo(config: PpoFile, **options: Any) -> Any:
    """Train as a PPO file says."""
    from rlaif.training.ppo import train_ppo as train

    return _train(train, config, options)


def train_rloo(config: RlooFile, **options: Any) -> Any:
    """Train as an RLOO file says."""
    from rlaif.training.online import train_rloo as train

    return _train(train, config, options)


def train_grpo(config: GrpoFile, **options: Any) -> Any:
    """Train as a GRPO file says."""
    from rlaif.training.online import train_grpo as train

    return _train(train, config, options)


def _train(train: Callable[..., Any], config: OnlineFile, options: dict[str, Any]) -> Any:
    from rlaif.serving.scorer import opened_scorer
    from rlaif.training.models import take_device

    take_device()  # before reward models are placed
    prompts = _read(config.prompts)
    rank = int(os.environ.get("RANK", "0"))
    with opened_scorer(config.reward, config.length_penalty, rank=rank) as opened:
        return train(
            prompts=prompts,
            model=config.model,
            scorer=opened.scorer,
            out=config.out,
            config=config,
            **options,
        )


def _read(named: PromptsConfig) -> list[Prompt]:
    items = list(read_prompts(PromptSource(**dict(named))))
    prompts = [item for item in items if isinstance(item, Prompt)]
    broken = [item for item in items if not isinstance(item, Prompt)]
    if broken:
        first = f"{broken[0].record_id}: {broken[0].message}"
        print(f"left out: {len(broken)} records that are no prompts ({first})", file=sys.stderr)
    return prompts
