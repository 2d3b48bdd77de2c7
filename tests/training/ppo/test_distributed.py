import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rlaif.errors import InputError
from rlaif.training.ppo.distributed import Distributed, _buckets, join_processes
from tests.training.ppo.small import save_policy

SCRIPT = """
import sys
from pathlib import Path
from rlaif.training.harness import save
from rlaif.training.ppo.train import train_ppo
from tests.training.ppo.small import PROMPTS, count_word

save.draw_curves = lambda *_: False
model, out = sys.argv[1:]
train_ppo(prompts=PROMPTS, model=model, scorer=count_word, out=out, rollouts=3, rollout_size=8,
          minibatch_size=4, max_new_tokens=6, critic_warmup=1, learning_rate=1e-3,
          critic_learning_rate=1e-3)
"""


def launch(processes: int, model: Path, out: Path) -> None:
    env = os.environ | {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    script = out.with_suffix(".py")
    script.write_text(SCRIPT)
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*start, str(script), str(model), str(out)],
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_train_the_policy_that_one_would(tmp_path: Path):
    model = save_policy(tmp_path / "model")
    launch(1, model, tmp_path / "one")
    launch(2, model, tmp_path / "two")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    start = load_file(model / "model.safetensors")
    assert any(not torch.equal(start[name], one[name]) for name in one)
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=1e-5), name


def test_alone_sums_are_what_they_were():
    world = Distributed()
    assert world.add_up(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert world.agree(True)
    assert not world.agree(False)
    parameter = nn.Parameter(torch.zeros(2))
    world.add_up_gradients([parameter])
    assert parameter.grad is None


def test_items_are_dealt_out_in_turn():
    worlds = [Distributed(rank, 3) for rank in range(3)]
    assert [[i for i in range(7) if w.owns(i)] for w in worlds] == [[0, 3, 6], [1, 4], [2, 5]]


def test_buckets_hold_every_parameter_once_in_order():
    parameters = [nn.Parameter(torch.zeros(2**24)) for _ in range(5)]
    assert [len(bucket) for bucket in _buckets(parameters)] == [2, 2, 1]
    assert [id(p) for bucket in _buckets(parameters) for p in bucket] == [id(p) for p in parameters]


def test_a_launcher_that_shards_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="FSDP"):
        join_processes()
