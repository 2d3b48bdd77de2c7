"""How large a vLLM engine is and what it runs: the same settings for the server and in-process."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from rlaif.config import Settings, load_config, nearest
from rlaif.config.load import FilePath
from rlaif.errors import EngineMissing, InputError
from rlaif.models import SHIPPED, model_fingerprint, resolve_model


def find_model(model: str) -> str:
    """Return what vLLM loads; a misspelt name is reported at once, not after a minute.

    Raises:
        EngineMissing: The name is close to a bundled one and not another kind of name.
        InputError: The folder or file was not found.
    """
    place = resolve_model(model)
    if place != model or Path(place).is_dir():
        return place
    if model.startswith((".", "/", "~")) or model.endswith(".gguf"):
        raise InputError(f"{model}: file or folder not found")
    if "/" not in model and get_close_matches(model, SHIPPED):
        raise EngineMissing(f"model {model!r} not found{nearest(model, sorted(SHIPPED))}")
    return place


def served_name(model: str, place: str) -> str:
    """Return what requests call a model.

    A folder is named with its fingerprint: two checkpoints at one address are two models, and the
    ledger must not answer for one with the other's replies.
    """
    if model in SHIPPED or not Path(place).is_dir():
        return model
    return f"{Path(model).name or Path(place).name}@{model_fingerprint(place)[:12]}"


GIB = 2**30
_CPU_CACHE_GIB = 2.0
_GPU_SHARE = 0.9
_CPU_BLOCK = 32
"""Tokens per block of the key-value cache. vLLM's 128 on a CPU would share prefixes in steps of
128 tokens only; it requires multiples of 32."""

_MAX_LOGPROBS = 128
_OURS = {
    "dtype": "dtype",
    "max_model_len": "max_model_len",
    "max_num_seqs": "max_num_seqs",
    "kv_cache_memory_bytes": "kv_cache_gib",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "tensor_parallel_size": "tensor_parallel",
    "trust_remote_code": "trust_remote_code",
    "chat_template": "chat_template",
    "model": "model",
    "revision": "revision",
}


class VllmSettings(Settings):
    """What the server and the in-process engine have in common."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: the model's own on a GPU, float32 on a CPU."
    )
    max_model_len: int | None = Field(
        None, ge=1, description="Most tokens of prompt and reply (default: the model's limit)."
    )
    max_num_seqs: int | None = Field(
        None,
        ge=1,
        description="Sequences at a time (default: 4 per core on a CPU, vLLM's on a GPU).",
    )
    kv_cache_gib: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description=f"Size of the key-value cache (default: {_CPU_CACHE_GIB:g} on a CPU, what "
        "gpu_memory_utilization leaves on a GPU).",
    )
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description=f"Share of GPU memory to take (default: {_GPU_SHARE})."
    )
    tensor_parallel: int = Field(1, ge=1, description="GPUs that share the weights.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with a model.")
    chat_template: FilePath | None = Field(
        None, description="A Jinja file, for models without a chat template."
    )

    INERT: ClassVar = frozenset(
        {"gpu_memory_utilization", "kv_cache_gib", "max_num_seqs", "tensor_parallel"}
    )


class VllmOptions(VllmSettings):
    """Everything below ``options:`` of an engine ``vllm``."""

    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Variables for the chat template."
    )
    system: Literal["send", "fold"] = Field(
        "send",
        description="fold: the system text stands at the head of the first user turn, for chat "
        "templates that take no system role.",
    )
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of vLLM's AsyncEngineArgs, by name."
    )

    INERT: ClassVar = frozenset({"engine_args"})

    @model_validator(mode="after")
    def _engine_args_are_others(self) -> "VllmOptions":
        for name in self.engine_args:
            if name in _OURS:
                raise ValueError(f"engine_args may not set {name}: use {_OURS[name]}")
        return self


def read_options(options: Mapping[str, Any]) -> VllmOptions:
    """Check the options; a relative path starts at the working directory.

    Raises:
        ConfigError: Names each wrong key as ``options.…`` and the nearest valid one.
    """
    return load_config(_Holder, {"options": dict(options)}).options


def engine_arguments(options: VllmSettings, *, cpu: bool) -> dict[str, Any]:
    """Return arguments for vLLM by the names of its AsyncEngineArgs.

    Whatever has a default of vLLM's that changes answers or hides figures is set: no sampling
    settings out of the model's generation config, prefixes cached, log-probabilities before
    temperature and masks.

    Args:
        options: The settings.
        cpu: Whether this vLLM is a build for CPUs.
    """
    arguments: dict[str, Any] = {
        "dtype": options.dtype,
        "generation_config": "vllm",
        "enable_prefix_caching": True,
        "max_logprobs": _MAX_LOGPROBS,
        "logprobs_mode": "raw_logprobs",
    }
    cache, share, seqs = options.kv_cache_gib, options.gpu_memory_utilization, options.max_num_seqs
    if cpu:
        # Without a size of the cache, vLLM takes nine tenths of all memory or does not start.
        cache = _CPU_CACHE_GIB if cache is None and share is None else cache
        seqs = seqs or max(4, min(64, 4 * (os.cpu_count() or 1)))
        arguments |= {"enforce_eager": True, "block_size": _CPU_BLOCK}
        if options.dtype == "auto":
            arguments["dtype"] = "float32"  # the same model on every CPU, as in transformers
    elif cache is None and share is None:
        share = _GPU_SHARE
    further = {
        "max_model_len": options.max_model_len,
        "max_num_seqs": seqs,
        "kv_cache_memory_bytes": None if cache is None else round(cache * GIB),
        "gpu_memory_utilization": share,
        "tensor_parallel_size": options.tensor_parallel if options.tensor_parallel > 1 else None,
        "trust_remote_code": options.trust_remote_code or None,
    }
    return arguments | {name: value for name, value in further.items() if value is not None}


def weights_format(place: str) -> dict[str, Any]:
    """Return the argument that keeps vLLM from pickled weights, which run code when they are read.

    By itself it takes ``.bin`` and ``.pt`` files where a model has no safetensors. GGUF files and
    addresses have other loaders, which read no pickles.
    """
    if place.endswith(".gguf") or "://" in place:
        return {}
    return {"load_format": "safetensors"}


class _Holder(Settings):
    options: VllmOptions = VllmOptions()
