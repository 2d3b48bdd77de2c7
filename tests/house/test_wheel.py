"""The wheel, installed into a clean environment, works from any folder."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RUN = """\
name: demo
prompts: {path: prompts.jsonl}
constitution: concise
student: {engine: scripted, model: echo, sampling: {n: 2}}
out: run
"""


@pytest.mark.slow
def test_an_installed_wheel_finds_its_words_from_any_folder(tmp_path: Path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
        capture_output=True,
    )
    # The dependencies of this environment, without its own (editable) copy of the package.
    packages = home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "run.yaml").write_text(RUN)
    (elsewhere / "prompts.jsonl").write_text('{"prompt": "Hello?"}\n{"prompt": "And you?"}\n')
    environment = {**os.environ, "PYTHONPATH": ""}

    def rlaif(*words: str) -> str:
        done = subprocess.run(
            [str(home / "bin" / "rlaif"), *words],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    where = subprocess.run(
        [str(python), "-c", "import rlaif; print(rlaif.__file__)"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(home) in where.stdout
    assert "no-lists" in rlaif("constitution", "show", "concise")
    rlaif("generate", "run.yaml")
    assert '"rows":2' in rlaif("status", "run", "--json")
    rlaif("export", "run", "--what", "responses", "--out", "exported")
    assert (elsewhere / "exported" / "README.md").exists()
