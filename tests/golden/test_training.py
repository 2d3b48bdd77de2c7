"""Every trainer gives the figures, the plan and the files that were recorded.

Losses that differ mean that policies differ; another fingerprint means that nobody can resume what
an earlier version began. Where that is meant, record anew as ``training_cases.py`` says.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.golden.training_cases import (
    CASES,
    RECORDS,
    make_inputs,
    read_figures,
    record_case,
    rewind,
    run_case,
)

RECORDED: dict[str, Any] = json.loads(RECORDS.read_bytes())
pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="the figures are those of a CPU"),
    # PEFT and TRL ask transformers 5.23 by the old name
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    make_inputs(folder)
    return folder


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested figures by their place, so that those which differ are named; what is None is out."""
    if isinstance(value, list):
        value = dict(enumerate(value, start=1))
    if not isinstance(value, dict):
        return {} if value is None else {name: value}
    parts = (flat(inner, f"{name}.{key}") for key, inner in value.items())
    return {place: figure for part in parts for place, figure in part.items()}


def near(value: Any) -> Any:
    """What another processor's rounding may give."""
    return pytest.approx(flat(value), rel=1e-4, abs=5e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_training_gives_what_was_recorded(name: str, folder: Path):
    found, recorded = record_case(folder, name), RECORDED[name]
    assert found.keys() == recorded.keys()
    for part in ("plan", "fingerprint", "headings", "checkpoints", "files"):
        assert found[part] == recorded[part], part
    for part in ("figures", "at the end"):
        assert flat(found[part]) == near(recorded[part]), part


@pytest.mark.parametrize("name", ["sft", "sft packed", "reward", "reward margin"])
def test_a_resumed_training_gives_the_same_figures(name: str, folder: Path):
    if not (folder / name).exists():
        run_case(folder, name)
    rewind(folder / name, 3)
    assert run_case(folder, name)["resumed_from"] == 3
    assert flat(read_figures(folder / name)) == near(RECORDED[name]["figures"])


def test_every_recording_belongs_to_a_case():
    assert RECORDED.keys() == CASES.keys()
