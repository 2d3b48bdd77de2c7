"""`rlaif train`, as a person would type it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rlaif.cli.main import main
from tests.training.tiny import colour_pairs


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["rlaif", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def write(folder: Path, tiny: Path, **changes: Any) -> str:
    colour_pairs(8, p=0.9).to_parquet(folder / "pairs.parquet")
    settings = {"model": str(tiny), "data": "pairs.parquet", "out": "out", "batch_size": 4}
    path = folder / "dpo.yaml"
    path.write_text(json.dumps({**settings, **changes}), encoding="utf-8")
    return str(path)


def test_a_training_file_becomes_a_checkpoint_and_the_command_may_be_repeated(
    tiny, tmp_path, monkeypatch, capsys
):
    path = write(tmp_path, tiny)
    assert run(monkeypatch, "train", "dpo", path, "--set", "beta=0.5") == 0
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert "2 steps" in capsys.readouterr().out
    assert run(monkeypatch, "train", "dpo", path, "--set", "beta=0.5") == 0
    assert "already finished after 2 steps" in capsys.readouterr().out


def test_json_is_all_there_is_on_stdout(tiny, tmp_path, monkeypatch, capfdbinary):
    assert run(monkeypatch, "train", "dpo", write(tmp_path, tiny), "--json") == 0
    events = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["step", "step", "finished"]
    assert events[-1]["steps"] == 2


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("dpo", {"bta": 1}, "did you mean 'beta'"),
        ("reward", {"data": "none.parquet"}, "no such file"),
        ("sft", {}, "missing column: completion"),
        ("dpo", {"model": "no-such-model-here"}, "no-such-model-here"),
    ],
)
def test_bad_input_is_one_clear_message_and_exit_code_2(
    tiny, tmp_path, monkeypatch, capsys, kind, changes, message
):
    path = write(tmp_path, tiny, **changes)
    assert run(monkeypatch, "train", kind, path) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "out").exists()
