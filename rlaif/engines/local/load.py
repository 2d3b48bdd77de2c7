"""Loading a model and its tokenizer, and saying what they are."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlaif.config import Settings, load_config, nearest
from rlaif.config.explain import spelled
from rlaif.config.load import FilePath
from rlaif.engines.local.chat import Chat
from rlaif.errors import ConfigError, EngineMissing
from rlaif.models import (
    SHIPPED,
    load_pretrained,
    load_weights,
    model_fingerprint,
    quiet_transformers,
    resolve_model,
)


class TransformersOptions(Settings):
    """Everything below ``options:`` of an engine ``transformers``."""

    device: Annotated[str, spelled(r"auto|cpu|cuda(:\d+)?", "write auto, cpu, cuda, or cuda:0")] = (
        "auto"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 on a GPU that has it, float32 on a CPU."
    )
    max_batch: int | None = Field(
        None, ge=1, description="Rows one worker decodes together (default: 128, 256 on a GPU)."
    )
    max_batch_tokens: int | None = Field(
        None, ge=1, description="Tokens one worker's key-value cache may hold (default: by memory)."
    )
    max_wait_ms: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="An idle worker starts when no further call has come for this long.",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads in all (default: as many as torch uses)."
    )
    workers: int | None = Field(
        None, ge=1, description="Batches at a time (default: one per thread up to 4, 1 on a GPU)."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with a model.")
    chat_template: FilePath | None = Field(
        None, description="A Jinja file, for models without a chat template."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Variables for the chat template."
    )
    system: Literal["send", "fold"] = Field(
        "send",
        description="fold: the system text stands at the head of the first user turn, for chat "
        "templates that take no system role.",
    )

    INERT: ClassVar = frozenset(
        {"device", "max_batch", "max_batch_tokens", "max_wait_ms", "threads", "workers"}
    )


class _Holder(Settings):
    options: TransformersOptions = TransformersOptions()


def read_options(options: Mapping[str, Any]) -> TransformersOptions:
    """Check the options; a relative path starts at the working directory.

    Raises:
        ConfigError: Names each wrong key as ``options.…`` and the nearest valid one.
    """
    return load_config(_Holder, {"options": dict(options)}).options


_SAMPLER = 1  # part of the identity; raise it when the same seed would draw another text


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run."""

    model: Any
    chat: Chat
    ends: frozenset[int]
    """Tokens that end a reply."""

    identity: Mapping[str, Any]


def load_model(name: str, *, revision: str | None, options: TransformersOptions) -> Loaded:
    """Load a model, a shipped one, from a folder or from the hub.

    Nothing is fetched for a folder or a shipped name.

    Raises:
        EngineMissing: No such model, none that generates text, none with a chat template, or one
            that `rlaif.models.load_weights` refuses.
        ConfigError: The chat template file cannot be read.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    place = resolve_model(name)
    if place == name and "/" not in name and get_close_matches(name, SHIPPED):
        raise cannot_load(name, place, None)  # a slip of the pen; asking the hub takes minutes
    common: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": options.trust_remote_code,
        # An adapter names the model it belongs to, which may have to be fetched.
        "local_files_only": Path(place, "config.json").is_file(),
    }
    device = _device(options.device)
    dtype = _dtype(options.dtype, device)
    try:
        with quiet_transformers():
            tokenizer = load_pretrained(AutoTokenizer, place, **common)
            model = load_weights(AutoModelForCausalLM, place, dtype=dtype, **common)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as problem:
        raise cannot_load(name, place, problem) from problem
    model.to(device=device)
    model.train(False).requires_grad_(False)
    set_template(tokenizer, name, options.chat_template)
    fold = options.system == "fold"
    chat = Chat(
        tokenizer, variables=options.chat_template_kwargs, context=_context(model), fold=fold
    )
    return Loaded(
        model=model,
        chat=chat,
        ends=frozenset(chat.turn_ends() | _generation_ends(model)),
        identity={
            "engine": "transformers",
            "model": name_of(name, place, model.config, revision),
            "dtype": str(dtype).removeprefix("torch."),
            "chat_template": hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()[:16],
            "chat_template_kwargs": options.chat_template_kwargs,
            "sampler": _SAMPLER,
            **({"system": "fold"} if fold else {}),
        },
    )


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise EngineMissing(
            f"options.device is {wanted}, but torch finds no GPU",
            hint="set it to auto or cpu, or install a torch build for this GPU",
        )
    return torch.device(wanted)


def _dtype(wanted: str, device: torch.device) -> torch.dtype:
    if wanted != "auto":
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[wanted]
    if device.type == "cpu":
        # One answer on every CPU: without bfloat16 instructions bfloat16 is several times slower,
        # and with them it would be another model than on the next machine.
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def set_template(tokenizer: Any, name: str, path: Path | None) -> None:
    """Give a tokenizer the chat template of a file, and make sure that it has one.

    Raises:
        ConfigError: The file cannot be read.
        EngineMissing: There is none.
    """
    if path is not None:
        try:
            tokenizer.chat_template = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigError(f"options.chat_template: {path}: cannot be read: {problem}") from None
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.get_chat_template()
    if not tokenizer.chat_template:
        raise EngineMissing(
            f"the model {name!r} has no chat template: it is a base model",
            hint="set options.chat_template: FILE.jinja",
        )


def _context(model: Any) -> int | None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def _generation_ends(model: Any) -> set[int]:
    ends = model.generation_config.eos_token_id if model.can_generate() else None
    if ends is None:
        ends = model.config.get_text_config().eos_token_id
    return set(ends) if isinstance(ends, list) else {ends} - {None}


def name_of(name: str, place: str, config: Any, revision: str | None) -> str:
    """Return what tells these weights from all others, wherever they lie."""
    if name in SHIPPED:
        return f"{name}@{SHIPPED[name].sha256[:12]}"
    if Path(place).is_dir():
        return f"folder@{model_fingerprint(place)}"
    commit = getattr(config, "_commit_hash", None) or revision or "main"
    return f"{name}@{commit}"


def cannot_load(name: str, place: str, problem: Exception | None) -> EngineMissing:
    """What to raise for a model that is not there or cannot be read."""
    if problem is not None and Path(place).is_dir():
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        return EngineMissing(f"the model in {place} cannot be loaded: {first}")
    return EngineMissing(
        f"model {name!r} not found: not a bundled model, a local folder, or a model on the Hub"
        f"{nearest(name, sorted(SHIPPED))}",
        hint="check the name, or the network if it is a Hub id",
    )
