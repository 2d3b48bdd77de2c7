"""Where the real vLLM of this checkout is, for tests that start it."""

import os
from pathlib import Path

import pytest

from rlaif.engines.vllm.install import PYTHON_VARIABLE

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get(PYTHON_VARIABLE) or str(ROOT / ".venv-vllm" / "bin" / "python")

needs_vllm = pytest.mark.skipif(
    not Path(PYTHON).exists(), reason="no vLLM: scripts/install-vllm installs it"
)
