"""The one door to transformers' loaders: no code of a model's own is run, and no pickle is read.

Left alone, transformers asks at the terminal whether to run custom code, and falls back to pickled
``.bin`` weights where there are no others.
"""

from typing import Any

from rlaif.errors import EngineMissing

_ADAPTER, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def load_pretrained(
    kind: Any, place: str, *, trust_remote_code: bool | None = None, **options: Any
) -> Any:
    """Load a configuration or a tokenizer.

    Args:
        kind: A class of transformers that has ``from_pretrained``.
        place: A folder or a hub id.
        trust_remote_code: Whether code that comes with the model is run; None: it is not, and
            the user has no option to change that.
        options: Handed on.

    Raises:
        EngineMissing: The model needs code of its own.
        OSError, ValueError, …: What transformers raises otherwise.
    """
    trusted = bool(trust_remote_code)
    try:
        return kind.from_pretrained(place, trust_remote_code=trusted, **options)
    except ValueError as problem:
        if trusted or "custom code" not in str(problem):
            raise
        raise EngineMissing(
            f"{place}: the model comes with Python code of its own, which is not run",
            hint="use a model that transformers knows without it"
            if trust_remote_code is None
            else "if you trust that code, set options.trust_remote_code: true",
        ) from None


def load_weights(
    kind: Any, place: str, *, trust_remote_code: bool | None = None, **options: Any
) -> Any:
    """Load a model from safetensors weights, a LoRA adapter too. Arguments as above.

    Raises:
        EngineMissing: It needs code of its own, or has only pickled weights.
        OSError, ValueError, …: What transformers raises otherwise.
    """
    where: dict[str, Any] = {
        key: options[key] for key in ("revision", "local_files_only") if key in options
    }
    if _has(place, _ADAPTER, where) and not _has(place, _ADAPTER_WEIGHTS, where):
        raise _no_safetensors(place, "adapter")
    try:
        return load_pretrained(
            kind, place, trust_remote_code=trust_remote_code, use_safetensors=True, **options
        )
    except OSError as problem:
        if "file named model.safetensors" not in str(problem):
            raise
        raise _no_safetensors(place, "model") from problem


def _has(place: str, name: str, where: dict[str, Any]) -> bool:
    from transformers.utils.hub import cached_file

    quiet = dict.fromkeys(
        (
            "_raise_exceptions_for_gated_repo",
            "_raise_exceptions_for_missing_entries",
            "_raise_exceptions_for_connection_errors",
        ),
        False,
    )
    return cached_file(place, name, **where, **quiet) is not None


def _no_safetensors(place: str, what: str) -> EngineMissing:
    return EngineMissing(
        f"{place}: the {what} has no safetensors weights, and pickled ones (.bin) are not read",
        hint="convert it where you trust it: load it with transformers, then save_pretrained()",
    )
