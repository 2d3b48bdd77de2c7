from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rlaif
from rlaif.cli.main import app
from rlaif.errors import TooManyFailed
from rlaif.runs import Run
from tests.e2e.project import write_project


def test_a_run_file_that_is_moved_during_the_run_still_decides_how_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    student = {"engine": "scripted", "model": "echo", "options": {"failure_rate": 0.3}}
    config = write_project(tmp_path, prompts=20, student=student, max_failed_share=0.0)

    def generate(config: Path, **options: Any) -> Run:
        run = rlaif.generate(config, **options)
        config.rename(tmp_path / "moved.yaml")
        return run

    monkeypatch.setattr("rlaif.cli.generate.run_generate", generate)
    result = CliRunner().invoke(app, ["generate", str(config)])
    assert isinstance(result.exception, TooManyFailed), result.output
    assert "more than max_failed_share: 0" in result.exception.message
