"""Who plays which role: engines opened from settings, one per distinct model."""

from collections.abc import Sequence

from rlaif.config import RunConfig
from rlaif.config.run import EngineConfig, JudgeConfig, SamplingConfig
from rlaif.engines import Engine, Sampling, open_engine
from rlaif.errors import ConfigError
from rlaif.records import content_id

SAME_AS_STUDENT = "same-as-student"
_ENGINE_KEYS = {"engine", "model", "revision", "base_url", "api_key_env", "options"}


def sampling_of(config: SamplingConfig) -> Sampling:
    """Sampling settings as engines want them."""
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=config.max_tokens,
        stop=config.stop,
        extra=tuple(sorted(config.extra.items())),
    )


def open_configured(config: EngineConfig | JudgeConfig) -> Engine:
    """Open the engine a config names."""
    if config.engine is None:
        raise ConfigError(f"{SAME_AS_STUDENT} names no engine of its own")
    return open_engine(
        config.engine,
        model=config.model,
        revision=config.revision,
        base_url=config.base_url,
        api_key_env=config.api_key_env,
        options=config.options,
    )


def open_once(config: EngineConfig | JudgeConfig, opened: dict[str, Engine]) -> Engine:
    """Open the engine a config names, or take it from ``opened`` when it is there already."""
    key = content_id("engine", config.model_dump(mode="json", include=_ENGINE_KEYS))
    if key not in opened:
        opened[key] = open_configured(config)
    return opened[key]


def open_engines(settings: RunConfig) -> dict[str, Engine]:
    """Open one engine per distinct model; roles that name the same one share it."""
    opened: dict[str, Engine] = {}
    roles = {"student": open_once(settings.student, opened)}
    for judge in settings.judges:
        own = judge.model != SAME_AS_STUDENT
        roles[f"judge:{judge.name}"] = open_once(judge, opened) if own else roles["student"]
    if settings.revise.rounds > 0:
        critic = settings.revise.critic
        roles["critic"] = roles["student"] if isinstance(critic, str) else open_once(critic, opened)
    return roles


def open_judges(configs: Sequence[JudgeConfig]) -> dict[str, Engine]:
    """Open the judges' engines, by judge name; judges that name the same model share one.

    Raises:
        EngineMissing: A model, extra or key is missing. Engines opened before are left to
            whoever ends the process: none has been asked anything.
    """
    opened: dict[str, Engine] = {}
    return {config.name: open_once(config, opened) for config in configs}
