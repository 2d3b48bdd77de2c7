"""Opening engines by name: one table, one entry each, nothing imported before it is needed."""

import importlib.util
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from rlaif.config import Settings, nearest
from rlaif.engines.protocol import Engine
from rlaif.errors import ConfigError, EngineMissing


def open_engine(
    engine: str,
    *,
    model: str,
    revision: str | None = None,
    base_url: str | None = None,
    api_key_env: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Engine:
    """Open a model behind an engine. Close it with ``await engine.aclose()``.

    Args:
        engine: ``transformers`` or ``vllm`` (in this process), ``openai`` (any compatible server),
            ``reward-model`` (a trained scorer, in this process) or ``scripted`` (no model at all).
        model: A shipped name, a folder or a hub id; the served name; or the scripted behaviour.
        revision: Of a hub id: branch, tag or commit.
        base_url: Of the server.
        api_key_env: Name of the environment variable that holds the server's key.
        options: The engine's own; unknown ones are errors.

    Raises:
        EngineMissing: No such engine or model, or an extra or a key is missing.
        ConfigError: A wrong option, or an argument that this engine has no use for.
    """
    if engine not in _BUILDERS:
        raise EngineMissing(f"unknown engine {engine!r}{nearest(engine, sorted(_BUILDERS))}")
    given = {"revision": revision, "base_url": base_url, "api_key_env": api_key_env}
    build, used = _BUILDERS[engine]
    for name, value in given.items():
        if value is not None and name not in used:
            raise ConfigError(f"{name}: the {engine} engine does not take this setting")
    return build(model=model, options=options, **{name: given[name] for name in used})


def answering_options(engine: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options that decide what is answered: not the pace, the place or the price.

    Args:
        engine: As for `open_engine`, which has checked the options.
        options: As a file says them.
    """
    room, name = _OPTIONS[engine]
    kind: type[Settings] = getattr(import_module(room), name)
    return {key: value for key, value in options.items() if key not in kind.inert()}


def _transformers(**arguments: Any) -> Engine:
    try:
        from rlaif.engines.local.engine import build_transformers_engine
    except ModuleNotFoundError as problem:
        raise EngineMissing(
            f"the transformers engine needs {problem.name}, which is not installed",
            hint="pip install 'constitutional-rlaif[local]'",
        ) from None
    return build_transformers_engine(**arguments)


def _openai(**arguments: Any) -> Engine:
    from rlaif.engines.openai.engine import build_openai_engine

    return build_openai_engine(**arguments)


def _reward_model(**arguments: Any) -> Engine:
    try:
        from rlaif.engines.reward_model import build_reward_model_engine
    except ModuleNotFoundError as problem:
        raise EngineMissing(
            f"the reward-model engine needs {problem.name}, which is not installed",
            hint="pip install 'constitutional-rlaif[local]'",
        ) from None
    return build_reward_model_engine(**arguments)


def _scripted(**arguments: Any) -> Engine:
    from rlaif.engines.scripted import build_scripted_engine

    return build_scripted_engine(**arguments)


def _vllm(**arguments: Any) -> Engine:
    if importlib.util.find_spec("vllm") is None:
        raise EngineMissing(
            "the vllm engine needs vllm, which is not installed here",
            hint="pip install 'constitutional-rlaif[vllm]', or serve the model from another "
            "environment: rlaif serve --model …",
        )
    from rlaif.engines.vllm.engine import build_vllm_engine

    return build_vllm_engine(**arguments)


_BUILDERS: Mapping[str, tuple[Callable[..., Engine], tuple[str, ...]]] = {
    "openai": (_openai, ("base_url", "api_key_env")),
    "reward-model": (_reward_model, ("revision",)),
    "scripted": (_scripted, ()),
    "transformers": (_transformers, ("revision",)),
    "vllm": (_vllm, ("revision",)),
}

_OPTIONS = {
    "openai": ("rlaif.engines.openai.options", "OpenAIOptions"),
    "reward-model": ("rlaif.engines.reward_model", "RewardModelOptions"),
    "scripted": ("rlaif.engines.scripted", "ScriptedOptions"),
    "transformers": ("rlaif.engines.local.load", "TransformersOptions"),
    "vllm": ("rlaif.engines.vllm.options", "VllmOptions"),
}
"""Where an engine's options are declared; loaded when they are asked for, some bring torch."""
