"""The in-process vLLM engine: its tests need an environment that has vLLM, and are run in it."""

import os
import subprocess

import pytest

from rlaif.engines import open_engine
from rlaif.errors import ConfigError, EngineMissing
from rlaif.models import resolve_model
from tests.engines.real_vllm import PYTHON, ROOT, needs_vllm


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(1200)
@needs_vllm
def test_it_keeps_to_what_every_engine_must_and_agrees_with_transformers():
    resolve_model("smollm2-135m-instruct")  # converted here, where what that takes is installed
    files = ["tests/engines/test_every_engine.py", "tests/engines/in_vllm.py"]
    options = ["-k", "vllm", "-q", "-x", "-p", "no:cacheprovider", "-W", "ignore"]
    done = subprocess.run(
        [PYTHON, "-m", "pytest", *files, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}{done.stderr[-3000:]}"
    assert " passed" in done.stdout


def test_without_vllm_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineMissing, match="needs vllm") as missing:
        open_engine("vllm", model="smollm2-135m-instruct")
    assert "rlaif serve" in missing.value.hint


def test_it_has_no_use_for_an_address():
    with pytest.raises(ConfigError, match="base_url"):
        open_engine("vllm", model="m", base_url="http://127.0.0.1:8000/v1")
