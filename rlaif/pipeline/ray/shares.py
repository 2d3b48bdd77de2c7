"""Shares: the limits of a run, divided among workers that do not know of each other."""

from typing import Any

from rlaif.config import RunConfig
from rlaif.config.run import EngineConfig, JudgeConfig
from rlaif.engines.openai.options import read_options, read_urls
from rlaif.errors import ConfigError

_IN_PROCESS = ("reward-model", "transformers", "vllm")


def runs_models(settings: RunConfig) -> bool:
    """Whether any engine of a run computes in the worker's own process."""
    return any(one.engine in _IN_PROCESS for one in _engines(settings))


def share_settings(settings: RunConfig, workers: int) -> RunConfig:
    """Return the settings with one worker's share of every limit.

    Adaptive limits are divided in all of start, minimum and maximum: each worker then finds its
    part of what the server can take by itself.

    Raises:
        ConfigError: There are more workers than prompts or calls may be in flight.
    """
    if workers > settings.concurrency:
        raise ConfigError(
            f"concurrency is {settings.concurrency} but there are {workers} workers; "
            "each needs at least one prompt in flight",
            hint="raise concurrency, or lower ray.workers",
        )
    revise = settings.revise
    if not isinstance(revise.critic, str):
        revise = revise.model_copy(update={"critic": _share(revise.critic, workers)})
    return settings.model_copy(
        update={
            "concurrency": settings.concurrency // workers,
            "student": _share(settings.student, workers),
            "judges": tuple(_share(judge, workers) for judge in settings.judges),
            "revise": revise,
        }
    )


def _engines(settings: RunConfig) -> list[EngineConfig | JudgeConfig]:
    critic = settings.revise.critic
    others = [] if isinstance(critic, str) or not settings.revise.rounds else [critic]
    return [settings.student, *settings.judges, *others]


def _share(config: Any, workers: int) -> Any:
    if config.engine != "openai":
        return config
    options = read_options(config.options)
    if options.transport == "batch":
        raise ConfigError(
            "options.transport: batch asks from one process and waits for hours: it gains nothing "
            "from the ray executor",
            hint="leave --executor ray out, or use transport: sdk",
        )
    whole = options.bounds(read_urls(config.base_url, options.base_urls))
    if workers > whole.maximum:
        raise ConfigError(
            f"options.max_concurrency is {whole.maximum} but there are {workers} workers; "
            "each needs at least one call in flight",
            hint="raise max_concurrency, or lower ray.workers",
        )
    divided: dict[str, Any] = {
        "start_concurrency": max(1, whole.start // workers),
        "min_concurrency": max(1, whole.minimum // workers),
        "max_concurrency": whole.maximum // workers,
    }
    for name in ("requests_per_minute", "tokens_per_minute"):
        limit = getattr(whole, name)
        if limit is not None:
            divided[name] = limit / workers
    return config.model_copy(update={"options": {**config.options, **divided}})
