"""From settings to an open engine and its sampling."""

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
        raise ConfigError(f"{SAME_AS_STUDENT} does not name an engine")
    return open_engine(
        config.engine,
        model=config.model,
        revision=config.revision,
        base_url=config.base_url,
        api_key_env=config.api_key_env,
        options=config.options,
    )


def engine_key(config: EngineConfig | JudgeConfig) -> str:
    """Return what is equal for configs that name the same model behind the same engine."""
    return content_id("engine", config.model_dump(mode="json", include=_ENGINE_KEYS))
