"""What a training was rewarded with, by content: a resume must agree with it."""

from pathlib import Path
from typing import Any

from rlaif.config.judge import JudgeConfig
from rlaif.config.judged import JudgedConfig
from rlaif.config.ppo import OnlineFile, RewardPartConfig
from rlaif.constitution.load import load_constitution
from rlaif.models import resolve_model
from rlaif.records import content_id
from rlaif.templates import TemplateSet
from rlaif.training.models import identify_model

_PACE = {
    *("batch", "base_urls", "connect_timeout_s", "device", "engine_args", "gpu_memory_utilization"),
    *("headers_env", "kv_cache_gib", "max_attempts", "max_batch", "max_batch_tokens"),
    *("max_concurrency", "max_num_seqs", "max_outage_s", "max_throttle_s", "max_wait_ms"),
    *("min_concurrency", "price", "requests_per_minute", "start_concurrency", "tensor_parallel"),
    *("threads", "timeout_s", "tokens_per_minute", "transport", "workers"),
}
"""Options of engines that say where, how fast and at what price, not what is answered."""


def reward_plan(config: object) -> dict[str, Any]:
    """Return ``reward`` and ``length_penalty`` of a training file, by content.

    Empty for anything else: a scorer that is a Python callable has no content we could name.

    Raises:
        ConstitutionError: A constitution cannot be read.
        TemplateError: A template of the judges cannot be read.
    """
    if not isinstance(config, OnlineFile):
        return {}
    reward = config.reward
    parts = [reward] if isinstance(reward, RewardPartConfig) else list(reward)
    penalty = config.length_penalty
    return {
        "reward": [_part(part) for part in parts],
        "length_penalty": None if penalty is None else penalty.model_dump(mode="json"),
    }


def _part(part: RewardPartConfig) -> dict[str, Any]:
    said: dict[str, Any] = {"weight": part.weight}
    if part.rules is not None:
        return {"rules": load_constitution(part.rules).label, **said}
    if part.reward_model is not None:
        if part.chat_template is not None:
            said["chat_template"] = _file(part.chat_template)
        return {"reward_model": identify_model(part.reward_model), **said}
    assert part.judged is not None
    return {"judged": _judged(part.judged), **said}


def _judged(config: JudgedConfig) -> dict[str, Any]:
    said = config.model_dump(
        mode="json",
        exclude={"judges", "constitution", "templates", "reuse", "concurrency", "out"},
    )
    words = TemplateSet.open(config.templates).fingerprints()
    judging = {name: text for name, text in words.items() if name.startswith("judge/")}
    return {
        "judges": [_judge(judge) for judge in config.judges],
        "constitution": load_constitution(config.constitution).label,
        "templates": content_id("templates", judging),
        **said,
    }


def _judge(judge: JudgeConfig) -> dict[str, Any]:
    local = judge.engine != "openai" and Path(resolve_model(judge.model)).is_dir()
    options = {
        name: _file(value) if name == "chat_template" else value
        for name, value in judge.options.items()
        if name not in _PACE
    }
    return {
        "engine": judge.engine,
        "model": identify_model(judge.model) if local else judge.model,
        "revision": judge.revision,
        "options": options,
        **judge.plan(),
    }


def _file(value: str) -> str:
    """A file by its content, a name as it stands."""
    path = Path(value)
    return content_id("file", path.read_text("utf-8")) if path.is_file() else value
