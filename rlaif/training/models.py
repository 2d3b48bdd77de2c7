"""Models for training: policies and scorers, whole or with low-rank adapters, on CPU or GPU.

A *policy* is a causal language model with a tokenizer that has a chat template. A *scorer* is the
same trunk with one number on top (``AutoModelForSequenceClassification`` with one label): a reward
model, or the start of a value model. Models are returned on the CPU, except quantised ones;
trainers place them.
"""

import ctypes
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from rlaif.config.load import nearest
from rlaif.config.train import LoraSettings, ModelSettings
from rlaif.errors import InputError
from rlaif.models import (
    SHIPPED,
    load_pretrained,
    load_weights,
    model_fingerprint,
    resolve_model,
)
from rlaif.records import content_id
from rlaif.training.adapters import add_adapter, find_adapter, four_bits, merge_adapter
from rlaif.training.data.chat import end_tokens, set_chat_template, set_pad_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h of glibc
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Have malloc keep what is freed: the next step of a training will ask for the same again.

    glibc gives large blocks back at once and gets them anew, page by page and zeroed, which took a
    tenth of each step on a CPU (docs/experiments.md). From here on this process gives nothing back,
    and needs a few hundredths more at most, for blocks are no longer packed as tightly. Elsewhere
    than on Linux with glibc, and where a GPU computes, nothing happens.
    """
    if sys.platform != "linux" or torch.cuda.is_available():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _NEVER)


_SMALL = 500_000_000
"""Parameters up to which bf16 log-probabilities are too coarse: importance ratios of models this
small explode in bf16, and their fp32 weights fit anywhere."""


def model_arguments(settings: ModelSettings) -> dict[str, Any]:
    """Return what `load_policy` and `load_scorer` take, from the settings of any trainer."""
    return {name: getattr(settings, name) for name in ModelSettings.model_fields}


def load_policy(
    model: str,
    *,
    dtype: str = "auto",
    revision: str | None = None,
    lora: LoraSettings | None = None,
    chat_template: str | None = None,
    frozen: bool = False,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a causal language model and its tokenizer.

    Args:
        model: A shipped name, a folder, or a hub id.
        dtype: ``float32``, ``bfloat16`` or ``auto``: fp32 on CPU, for models up to 500M
            parameters, and for full fine-tuning (a step of 1e-6 vanishes in a bf16 weight; the
            trainer then computes in bf16 autocast); bf16 on a GPU for bigger models that are
            frozen or adapted.
        revision: Branch, tag or commit on the hub.
        lora: Wrap the model in new adapters; only these will be trained.
        chat_template: See `rlaif.training.data.chat.set_chat_template`.
        frozen: The model is only read (a reference): no gradients, eval mode.

    Raises:
        InputError: Not a model, no chat template, one that ends no turn (unless ``frozen``), or
            ``lora`` trains nothing.
        EngineMissing: QLoRA without CUDA or bitsandbytes, or a model that brings code or has
            no safetensors weights.
    """
    folder = _resolve(model)
    keep_bf16 = frozen or lora is not None
    options = _load_options(folder, dtype, revision, keep_bf16=keep_bf16)
    if lora is not None and lora.quantize:
        options |= four_bits()
    policy, _ = _load(AutoModelForCausalLM, folder, options)
    tokenizer = load_tokenizer(model, revision=revision, chat_template=chat_template)
    _agree_on_tokens(policy, tokenizer)
    end_tokens(tokenizer, needed=not frozen)
    if lora is not None:
        policy = add_adapter(policy, lora, task="CAUSAL_LM")
    return _settle(policy, frozen=frozen), tokenizer


def load_scorer(
    model: str,
    *,
    dtype: str = "auto",
    revision: str | None = None,
    lora: LoraSettings | None = None,
    chat_template: str | None = None,
    frozen: bool = False,
    trained: bool = False,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a scorer: a saved reward model, or a policy whose head is replaced by one number.

    A new head is drawn from N(0, 1/(d+1)), d the hidden size (Stiennon et al. 2020, 2009.01325);
    the draw uses torch's global generator, so seed it first. Arguments are those of `load_policy`;
    with ``trained`` a model without a scoring head is refused.

    Raises:
        InputError: Not a model, one with several labels, not a reward model, or no chat template.
        EngineMissing: QLoRA without CUDA or bitsandbytes, or a model that brings code or has
            no safetensors weights.
    """
    folder = _resolve(model)
    options = _load_options(folder, dtype, revision, keep_bf16=frozen or lora is not None)
    config, adapter = _read_config(folder, revision), find_adapter(folder)
    scores = _is_scorer(config) or (adapter is not None and adapter.scores)
    if _is_scorer(config) and config.num_labels != 1:
        raise InputError(
            f"{model}: not a reward model: it has {config.num_labels} labels, expected 1",
            hint="train one with rlaif train reward",
        )
    if lora is not None and lora.quantize:
        options |= four_bits()
    options |= {"num_labels": 1}
    scorer, missing = _load(AutoModelForSequenceClassification, folder, options)
    if trained and missing:
        raise _no_reward_model(model, f"it has no weights for {min(missing)}")
    if not scores:
        _draw_head(scorer)
    tokenizer = load_tokenizer(
        model, revision=revision, chat_template=chat_template, separate_pad=True
    )
    if len(tokenizer) > scorer.get_input_embeddings().num_embeddings:
        scorer.resize_token_embeddings(len(tokenizer))
    _agree_on_tokens(scorer, tokenizer)
    if lora is not None:
        scorer = add_adapter(scorer, lora, task="SEQ_CLS")
    return _settle(scorer, frozen=frozen), tokenizer


def need_reward_model(model: str) -> None:
    """Check a model's configuration, before anything is loaded.

    Raises:
        InputError: It is a policy, or not a model.
    """
    folder = _resolve(model)
    adapter = find_adapter(folder)
    if not (adapter.scores if adapter else _is_scorer(_read_config(folder, None))):
        raise _no_reward_model(model, "it has no head that scores")


def load_tokenizer(
    model: str,
    *,
    revision: str | None = None,
    chat_template: str | None = None,
    separate_pad: bool = False,
) -> "PreTrainedTokenizerBase":
    """Load a tokenizer with a chat template and a pad token.

    Args:
        model: As for `load_policy`.
        revision: As there.
        chat_template: As there.
        separate_pad: For a scorer: add a pad token when the vocabulary has none but
            end-of-sequence. A policy gets one that the model has an embedding for.

    Raises:
        InputError: No tokenizer, or no chat template.
    """
    folder = _resolve(model)
    adapter = find_adapter(folder)
    if adapter is not None and not (Path(folder) / "tokenizer_config.json").is_file():
        folder = _resolve(adapter.base)
    try:
        tokenizer = load_pretrained(AutoTokenizer, folder, revision=revision)
    except (OSError, ValueError, KeyError) as problem:
        raise InputError(f"{model}: no tokenizer: {_first_line(problem)}") from problem
    set_chat_template(tokenizer, chat_template)
    if separate_pad:
        set_pad_token(tokenizer, add=True)
    else:
        set_pad_token(tokenizer, below=vocabulary_size(model, revision=revision))
    return cast("PreTrainedTokenizerBase", tokenizer)


def context_length(model: str, *, revision: str | None = None) -> int | None:
    """Most tokens the model can attend to, where its configuration states it."""
    config = _read_config(_resolve(model), revision).get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def vocabulary_size(model: str, *, revision: str | None = None) -> int | None:
    """Rows of the model's embeddings, where its configuration states them."""
    size = getattr(_read_config(_resolve(model), revision).get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) and size > 0 else None


def identify_model(model: str, *, revision: str | None = None) -> str:
    """Name a model by its content where it lies in a folder here, else by hub id and revision.

    Raises:
        InputError: The model is not found, or the folder holds no weights.
    """
    place = _resolve(model)
    if Path(place).is_dir():
        return model_fingerprint(place)
    return content_id("model", place, revision)


def count_parameters(model: torch.nn.Module, *, trainable: bool = False) -> int:
    """Count parameters; with ``trainable`` only those that receive gradients."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def device_kind() -> str:
    """``cuda`` where a GPU is usable, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def computes_in_bf16(dtype: str, policy: torch.nn.Module) -> bool:
    """Whether to compute in bf16 autocast: as ``dtype`` says, or for a big model on a GPU."""
    if dtype != "auto":
        return dtype == "bfloat16"
    return device_kind() == "cuda" and count_parameters(policy) > _SMALL


def take_device() -> None:
    """Let this process, one of several on a machine, use the GPU with its own number.

    Models are placed before the libraries that join processes are asked; without this all of them
    would lie on the first GPU.
    """
    place = os.environ.get("LOCAL_RANK")
    if place is not None and torch.cuda.is_available() and int(place) < torch.cuda.device_count():
        torch.cuda.set_device(int(place))


def quiet_telemetry() -> None:
    """Turn off the libraries' telemetry unless the user has set the variable to something else."""
    if os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1") == "1":
        from huggingface_hub import constants

        constants.HF_HUB_DISABLE_TELEMETRY = True  # read once, at that module's import


def _resolve(model: str) -> str:
    quiet_telemetry()
    resolved = resolve_model(model)
    if not Path(resolved).is_dir() and resolved.count("/") != 1:
        raise InputError(
            f"model {model} not found: not a bundled model, a local folder or a Hub id"
            f"{nearest(model, list(SHIPPED))}",
            hint="hub ids have the form owner/name",
        )
    return resolved


def _read_config(folder: str, revision: str | None) -> Any:
    adapter = find_adapter(folder)
    place = folder if adapter is None else _resolve(adapter.base)
    try:
        return load_pretrained(AutoConfig, place, revision=revision)
    except (OSError, ValueError, KeyError) as problem:
        raise InputError(
            f"{place}: not a model: {_first_line(problem)}",
            hint="give a folder with config.json, a hub id, or a shipped name",
        ) from problem


def _is_scorer(config: Any) -> bool:
    names = getattr(config, "architectures", None) or []
    return any("SequenceClassification" in name for name in names)


def _no_reward_model(model: str, why: str) -> InputError:
    return InputError(
        f"{model}: not a reward model: {why}", hint="train one with rlaif train reward"
    )


def _load_options(
    folder: str, dtype: str, revision: str | None, *, keep_bf16: bool
) -> dict[str, Any]:
    config = _read_config(folder, revision)
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype != "auto" and dtype not in named:
        raise InputError(f"dtype {dtype!r} is not allowed", hint="auto, float32 or bfloat16")
    if dtype == "auto":
        coarse = keep_bf16 and device_kind() == "cuda" and _size_of(config) > _SMALL
        chosen = torch.bfloat16 if coarse else torch.float32
    else:
        chosen = named[dtype]
    return {"dtype": chosen, "revision": revision}


def _size_of(config: Any) -> int:
    """Parameters of the model this configuration describes, without allocating them."""
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=False
        )
    return count_parameters(empty)


def _load(kind: Any, folder: str, options: dict[str, Any]) -> tuple[Any, set[str]]:
    """Return the model, an adapter merged into its base, and the names of weights it lacks."""
    adapter = find_adapter(folder)
    place = folder if adapter is None else _resolve(adapter.base)
    try:
        model, notes = load_weights(kind, place, **options, output_loading_info=True)
    except (OSError, ValueError, KeyError) as problem:
        raise InputError(f"{folder}: cannot be loaded: {_first_line(problem)}") from problem
    if adapter is None:
        return model, set(notes["missing_keys"])
    missing = set() if adapter.scores else set(notes["missing_keys"])
    return merge_adapter(model, folder), missing


def _draw_head(scorer: Any) -> None:
    head = next((module for name, module in scorer.named_children() if name == "score"), None)
    if not isinstance(head, torch.nn.Linear):
        return  # another architecture keeps the library's own initialisation
    torch.nn.init.normal_(head.weight, std=1.0 / math.sqrt(head.in_features + 1))
    if head.bias is not None:
        torch.nn.init.zeros_(head.bias)


def _agree_on_tokens(model: Any, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Write the tokenizer's pad token, and what ends a reply, where transformers looks for them."""
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    generation = getattr(model, "generation_config", None)
    if generation is None or not model.can_generate():
        return
    declared = generation.eos_token_id
    ends = [*declared] if isinstance(declared, list | tuple) else [declared]
    ends += [*end_tokens(tokenizer, needed=False), tokenizer.eos_token_id]
    stops = list(dict.fromkeys(int(end) for end in ends if end is not None))
    generation.pad_token_id = tokenizer.pad_token_id
    generation.eos_token_id = stops[0] if len(stops) == 1 else stops


def _settle(model: Any, *, frozen: bool) -> Any:
    if frozen:
        return model.eval().requires_grad_(False)
    if count_parameters(model, trainable=True) == 0:
        raise InputError("these settings (such as lora) leave nothing to train")
    keep_freed_memory()
    return model


def _first_line(problem: Exception) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]
