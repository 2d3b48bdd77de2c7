"""Low-rank adapters: new ones on a model, and folders of trained ones to start from."""

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from rlaif.config.train import LoraSettings
from rlaif.errors import EngineMissing, InputError
from rlaif.models.loading import load_adapter, read_adapter


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """A folder that holds an adapter and no model."""

    base: str
    """The model it belongs to: a folder or a hub id."""

    scores: bool
    """Whether it makes a reward model of its base."""


def find_adapter(folder: str) -> AdapterFolder | None:
    """Return what an adapter's folder says of itself; None for a whole model or a hub id.

    Raises:
        InputError: Its configuration is damaged or names no base.
        EngineMissing: Its weights are pickled.
    """
    path = Path(folder) / "adapter_config.json"
    if not path.is_file() or (Path(folder) / "config.json").is_file():
        return None
    try:
        config = orjson.loads(path.read_bytes())
        base = config["base_model_name_or_path"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as problem:
        raise InputError(f"{path}: damaged: {problem}") from problem
    if not isinstance(base, str) or not base:
        raise InputError(f"{path}: names no base model", hint="set base_model_name_or_path in it")
    if not (Path(folder) / "adapter_model.safetensors").is_file():
        raise EngineMissing(
            f"{folder}: the adapter has no safetensors weights (pickles are not read)"
        )
    return AdapterFolder(base, config.get("task_type") == "SEQ_CLS")


def merge_adapter(model: Any, folder: str) -> Any:
    """Add a trained adapter to the weights of its base, and return the plain model.

    Raises:
        InputError: It does not fit.
    """
    if getattr(model, "is_loaded_in_4bit", False):
        raise InputError(
            f"{folder}: an adapter cannot be merged into a base in 4 bits",
            hint="set lora.quantize to false, or name a whole model",
        )
    config = read_adapter(folder)
    if not model.can_generate() and config.task_type == "CAUSAL_LM":
        config.task_type = None  # a policy's adapter as the start of a scorer
    try:
        merged = load_adapter(model, folder, config).merge_and_unload()
        return merged.requires_grad_(True)
    except (RuntimeError, ValueError, KeyError) as problem:
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise InputError(f"{folder}: the adapter does not fit its base: {first}") from problem


def add_adapter(model: Any, lora: LoraSettings, *, task: str) -> Any:
    """Wrap a model in new adapters; only these will be trained.

    Raises:
        InputError: They fit no layer.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if lora.quantize:
        model = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
            model, use_gradient_checkpointing=False
        )
    targets = lora.target_modules
    settings = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type=task,
        modules_to_save=["score"] if task == "SEQ_CLS" else None,
    )
    try:
        with warnings.catch_warnings():
            # PEFT asks for `is_gradient_checkpointing`, which transformers 5.23 has renamed
            warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
            return get_peft_model(model, settings)
    except ValueError as problem:
        raise InputError(f"lora: {str(problem).strip().splitlines()[0]}") from problem


def four_bits() -> dict[str, Any]:
    """Return what loads a model in 4 bits (QLoRA).

    Raises:
        EngineMissing: No CUDA device, or no bitsandbytes.
    """
    if not torch.cuda.is_available():
        raise EngineMissing("QLoRA needs a CUDA device", hint="set lora.quantize to false")
    try:
        importlib.import_module("bitsandbytes")
    except ImportError:
        raise EngineMissing(
            "QLoRA needs bitsandbytes, which is not installed", hint="pip install bitsandbytes"
        ) from None
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantization, "device_map": {"": torch.cuda.current_device()}}
