"""Trainings in separate processes: killed without warning, and several at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rlaif.errors import InputError
from rlaif.training.launch import launch_command, launch_own
from tests.training.tiny import colour_pairs

RLAIF = Path(sys.executable).with_name("rlaif")


def write(folder: Path, tiny: Path, **changes: Any) -> str:
    colour_pairs(16, p=[1.0, 0.8]).to_parquet(folder / "pairs.parquet")
    settings = {"model": str(tiny), "data": "pairs.parquet", "learning_rate": 2e-3, "warmup": 0.0}
    path = folder / "dpo.yaml"
    path.write_text(json.dumps({**settings, "batch_size": 4, **changes}), encoding="utf-8")
    return str(path)


def start(*words: str) -> "subprocess.Popen[bytes]":
    command = [str(RLAIF), "train", "dpo", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def assert_same_weights(one: Path, other: Path, *, exactly: bool) -> None:
    left, right = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        if exactly:
            assert torch.equal(tensor, right[name]), name
        else:
            torch.testing.assert_close(tensor, right[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_killed_without_warning_ends_like_one_that_was_not(tiny, tmp_path):
    path = write(tmp_path, tiny, epochs=30, save_every=3)
    assert start(path, "--set", f"out={tmp_path / 'whole'}").wait() == 0
    out = tmp_path / "cut"
    for enough in (3, 40):
        process = start(path, "--set", f"out={out}")
        metrics = out / "metrics.jsonl"
        while process.poll() is None:
            lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            if lines >= enough:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        process.wait()
    assert start(path, "--set", f"out={out}").wait() == 0
    assert_same_weights(tmp_path / "whole", out, exactly=True)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_bytes().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 121))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupt_exits_with_130_and_the_command_resumes(tiny, tmp_path):
    path = write(tmp_path, tiny, epochs=200, out="out")
    process = start(path)
    metrics = tmp_path / "out" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    saved = list((tmp_path / "out" / "checkpoints").glob("checkpoint-*/complete.json"))
    assert len(saved) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(torch.cuda.is_available(), reason="tests the launch on a CPU")
def test_two_processes_train_like_one_with_twice_the_batch(tiny, tmp_path):
    path = write(tmp_path, tiny, epochs=2)
    assert start(path, "--set", f"out={tmp_path / 'one'}").wait() == 0
    words = ("--set", f"out={tmp_path / 'two'}", "--set", "batch_size=2", "--launch", "ddp")
    environment = {name: os.environ.pop(name) for name in ("RANK",) if name in os.environ}
    try:
        assert start(path, *words, "--processes", "2").wait() == 0
    finally:
        os.environ.update(environment)
    assert_same_weights(tmp_path / "one", tmp_path / "two", exactly=False)
    rows = (tmp_path / "two" / "metrics.jsonl").read_bytes().splitlines()
    assert len(rows) == 8


def test_sharding_needs_gpus():
    with pytest.raises(InputError, match="fsdp2 needs GPUs"):
        launch_command("fsdp2", 2, ["rlaif"], on_gpu=False)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "zero2"])
def test_accelerate_understands_the_shipped_settings(strategy):
    from accelerate.commands.config.config_args import load_config_from_file

    command = launch_command(strategy, 4, ["rlaif", "train"], on_gpu=True)
    settings = load_config_from_file(command[command.index("--config_file") + 1])
    assert settings.num_machines == 1
    assert command[-4:] == ["--num_processes", "4", "rlaif", "train"]


def test_several_nodes_are_described_in_a_file_of_ones_own(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text("distributed_type: MULTI_GPU\nnum_machines: 2\nmachine_rank: 1\n")
    command = launch_own(path, None, ["rlaif", "train"])
    assert command[1:4] == ["-m", "accelerate.commands.launch", "--config_file"]
    assert command[4:] == [str(path), "rlaif", "train"]


@pytest.mark.parametrize("text", [None, "nonsense: 1\n", "- 1\n"])
def test_a_launch_file_that_is_none_is_one_clear_message(tmp_path, text):
    path = tmp_path / "nodes.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"no such file|not a settings file of accelerate"):
        launch_own(path, None, ["rlaif"])
