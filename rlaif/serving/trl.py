"""Our scorers as TRL's async reward function, in TRL's own process."""

import atexit
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rlaif.config import load_config
from rlaif.config.reward import ServeRewardConfig
from rlaif.serving.client import log_unscored, server_reward_func
from rlaif.serving.scorer import opened_scorer
from rlaif.training.scorers import await_scores, conversation, text_of

RewardFunc = Callable[..., Awaitable[list[float | None]]]


def build_reward_func(
    source: str | Path | Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None
) -> RewardFunc:
    """Return a reward function for ``reward_funcs`` of TRL's GRPOTrainer and RLOOTrainer.

    Its judges keep a ledger, so equal texts are judged once, also in the next training. Async, so
    TRL lets several reward functions wait side by side. None stands for *unscored*, which TRL
    leaves out; the share of it is logged as ``rlaif/unscored``, the reasons beside the completions.

    Args:
        source: The address of a running ``rlaif serve-reward``; or its file, or the same as a
            mapping, to open the scorers in this process. Those are closed when it ends.
        overrides: Dotted keys to values of the file.

    Raises:
        InputError: The file or a part it names cannot be used.
        EngineMissing: A model, extra, key or capability is missing.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return server_reward_func(source)
    settings = load_config(ServeRewardConfig, source, overrides)
    opened = ExitStack()
    scorer = opened.enter_context(opened_scorer(settings.reward, settings.length_penalty)).scorer
    atexit.register(opened.close)

    async def rlaif_reward(
        prompts: list[Any], completions: list[Any], **columns: Any
    ) -> list[float | None]:
        count = len(completions)
        why: list[list[str]] = [[] for _ in completions]
        kept = {
            name: columns[name]
            for name in ("tags", "reference", "prompt_id")
            if len(columns.get(name) or ()) == count
        }
        scores = await await_scores(
            scorer,
            [conversation(prompt) for prompt in prompts],
            [text_of(completion) for completion in completions],
            {**kept, "why": why},
            timeout=settings.timeout,
        )
        log_unscored(columns, scores, ["; ".join(some) for some in why])
        return scores

    return rlaif_reward
