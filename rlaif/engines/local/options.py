"""Options of the transformers engine: what stands under ``options:``."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from rlaif.config import Settings, load_config
from rlaif.config.load import FilePath


class TransformersOptions(Settings):
    """Everything below ``options:`` of an engine ``transformers``."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 on a GPU that has it, float32 on a CPU."
    )
    max_batch: int | None = Field(
        None, ge=1, description="Rows one worker decodes together; absent: 128, 256 on a GPU."
    )
    max_batch_tokens: int | None = Field(
        None, ge=1, description="Tokens one worker's key-value cache may hold; absent: by memory."
    )
    max_wait_ms: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="An idle worker starts when no further call has come for this long.",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads in all; absent: as many as torch uses."
    )
    workers: int | None = Field(
        None, ge=1, description="Batches at a time; absent: one per thread up to 4, 1 on a GPU."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with a model.")
    chat_template: FilePath | None = Field(
        None, description="A Jinja file, for models that have no chat template of their own."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Variables for the chat template."
    )


class _Holder(Settings):
    options: TransformersOptions = TransformersOptions()


def read_options(options: Mapping[str, Any]) -> TransformersOptions:
    """Check the options; a relative path starts at the working directory.

    Raises:
        ConfigError: Names each wrong key as ``options.…`` and the nearest valid one.
    """
    return load_config(_Holder, {"options": dict(options)}).options
