import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlaif.cli import train
from rlaif.errors import ConfigError, InputError
from tests.training.ppo.small import PROMPTS, save_policy

RULES = """
name: rules
version: 1.0.0
principles:
  - {id: brief, kind: rule, statement: At most four words., rule: {max_words: 4}}
"""
COMMON = "{model: m, prompts: {path: p.jsonl}, reward: {rules: rules.yaml}, out: out, rollouts: 1, "
SIZES = "rollout_size: 8, minibatch_size: 8, max_new_tokens: 6, show_samples: 0, "
FILES = {
    "ppo": COMMON + SIZES + "critic_warmup: 0}",
    "rloo": COMMON + SIZES + "group_size: 2}",
    "grpo": COMMON + SIZES + "group_size: 4}",
}


def write(folder: Path, command: str) -> Path:
    save_policy(folder / "m")
    (folder / "rules.yaml").write_text(RULES)
    lines = [json.dumps({"prompt": prompt}) for prompt in PROMPTS]
    (folder / "p.jsonl").write_text("\n".join([*lines, "no json"]))
    path = folder / "train.yaml"
    path.write_text(FILES[command])
    return path


@pytest.mark.parametrize("command", ["ppo", "rloo", "grpo"])
def test_a_file_becomes_a_policy_in_one_command(command: str, tmp_path: Path):
    path = write(tmp_path, command)
    done = CliRunner().invoke(train.app, [command, str(path), "--json"], catch_exceptions=False)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "finished"
    assert events[-1]["kind"] == command
    assert events[0]["text"].startswith("left out: 1 records that are not prompts (p.jsonl:9")
    assert (tmp_path / "out" / "model.safetensors").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| reward from | `{'rules': 'rules.yaml'}` |" in card
    assert "p.jsonl" in card
    assert str(tmp_path) not in card


def test_mistakes_in_a_file_are_named_with_their_place(tmp_path: Path):
    path = write(tmp_path, "ppo")
    path.write_text(FILES["ppo"].replace("rollouts: 1", "rolouts: 1"))
    with pytest.raises(ConfigError, match=r"train\.yaml:1:\d+: unknown key 'rolouts'"):
        CliRunner().invoke(train.app, ["ppo", str(path)], catch_exceptions=False)


def test_ppo_is_not_launched_sharded(tmp_path: Path):
    path = write(tmp_path, "ppo")
    with pytest.raises(InputError, match="can only be launched with ddp"):
        CliRunner().invoke(
            train.app, ["ppo", str(path), "--launch", "zero2"], catch_exceptions=False
        )
