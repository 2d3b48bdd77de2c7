"""llama.cpp's server as it really is, for tests that start it."""

import importlib.util
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlaif.models import SHIPPED

ROOT = Path(__file__).parents[2]
LLAMA_CPP = ROOT / ".venv-llamacpp" / "bin" / "python"
MODEL = "smollm2-135m-instruct"

needs_llama_cpp = pytest.mark.skipif(
    not LLAMA_CPP.exists(), reason="no llama.cpp: scripts/install-servers installs it"
)


def shipped_file() -> Path:
    """The GGUF file of the embedded model: the same weights, and no conversion of them."""
    package = SHIPPED[MODEL].package
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / SHIPPED[MODEL].file


@contextmanager
def llama_cpp(folder: Path, *, context: int = 2048, key: str = "") -> Iterator[str]:
    """Serve the embedded model's file by the name ``small``; yields the base_url."""
    script = Path(__file__).parent / "llama_cpp.py"
    words = [str(word) for word in (LLAMA_CPP, script, shipped_file(), context)]
    words += [key] * bool(key)
    with (folder / "llama_cpp.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        for line in process.stdout:  # llama.cpp's own lines may come before it
            if line.startswith(b"http"):
                break
        else:
            raise AssertionError((folder / "llama_cpp.log").read_text(errors="replace")[-2000:])
        yield f"{line.decode().strip()}/v1"
    finally:
        process.kill()
        process.communicate()
