"""The only calls of transformers' loaders: they run no code from a model and read no pickle.

By default, transformers asks on the terminal whether to run custom code, and falls back to pickled
``.bin`` weights if there are no others.
"""

from pathlib import Path
from typing import Any

from rlaif.errors import EngineMissing

_ADAPTER, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def load_pretrained(
    kind: Any, place: str, *, trust_remote_code: bool | None = None, **options: Any
) -> Any:
    """Load a configuration or a tokenizer.

    Args:
        kind: A class of transformers that has ``from_pretrained``.
        place: A folder, or an id on the Hub.
        trust_remote_code: Whether to run code that comes with the model (default: no, and the error
            names no option that would allow it).
        options: Passed to ``from_pretrained``.

    Raises:
        EngineMissing: The model needs its own code.
        OSError, ValueError, …: Any other error of transformers.
    """
    trusted = bool(trust_remote_code)
    try:
        return kind.from_pretrained(place, trust_remote_code=trusted, **options)
    except ValueError as problem:
        if trusted or "custom code" not in str(problem):
            raise
        raise EngineMissing(
            f"{place}: the model needs its own Python code, which is not run",
            hint="use a model that transformers supports without custom code"
            if trust_remote_code is None
            else "if you trust that code, set options.trust_remote_code: true",
        ) from None


def load_weights(
    kind: Any, place: str, *, trust_remote_code: bool | None = None, **options: Any
) -> Any:
    """Load a model from safetensors weights, a LoRA adapter too. Arguments as above.

    Raises:
        EngineMissing: The model needs its own code, or has only pickled weights.
        OSError, ValueError, …: Any other error of transformers.
    """
    hub: dict[str, Any] = {
        key: options[key] for key in ("revision", "local_files_only") if key in options
    }
    if _has(place, _ADAPTER, hub) and not _has(place, _ADAPTER_WEIGHTS, hub):
        raise _no_safetensors(place, "adapter")
    try:
        return load_pretrained(
            kind, place, trust_remote_code=trust_remote_code, use_safetensors=True, **options
        )
    except OSError as problem:
        if "file named model.safetensors" not in str(problem):
            raise
        raise _no_safetensors(place, "model") from problem


def read_adapter(folder: str) -> Any:
    """Return the configuration of a PEFT adapter in a folder."""
    from peft import PeftConfig

    return PeftConfig.from_pretrained(folder)


def load_adapter(model: Any, folder: str, config: Any) -> Any:
    """Put an adapter from safetensors weights on a model.

    Raises:
        EngineMissing: The folder has only pickled weights.
        RuntimeError, ValueError, …: Any other error of PEFT.
    """
    from peft import PeftModel

    if not (Path(folder) / _ADAPTER_WEIGHTS).is_file():
        raise _no_safetensors(folder, "adapter")
    return PeftModel.from_pretrained(model, folder, config=config)


def _has(place: str, name: str, hub: dict[str, Any]) -> bool:
    from transformers.utils.hub import cached_file

    quiet = dict.fromkeys(
        (
            "_raise_exceptions_for_gated_repo",
            "_raise_exceptions_for_missing_entries",
            "_raise_exceptions_for_connection_errors",
        ),
        False,
    )
    return cached_file(place, name, **hub, **quiet) is not None


def _no_safetensors(place: str, what: str) -> EngineMissing:
    return EngineMissing(
        f"{place}: the {what} has no safetensors weights; pickled ones (.bin) are not read",
        hint="if you trust it, load it with transformers and save it with save_pretrained()",
    )
