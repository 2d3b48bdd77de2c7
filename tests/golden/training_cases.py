"""The trainings whose figures are recorded in ``training.json``, run as a person would run them.

    python -m tests.golden.training_cases      # writes training.json anew: read its diff

Everything goes through ``rlaif train KIND FILE --json`` and is read from the files it leaves. The
models are tiny, and their weights exact fractions, so that their fingerprints are the same on every
machine with the versions of ``constraints.txt``.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from rlaif.cli import train
from tests.training.ppo.small import PROMPTS, save_reward_model
from tests.training.tiny import COLOURS, assistant, colour_pairs, make_tiny, user

RECORDS = Path(__file__).with_name("training.json")

RULES = """
name: rules
version: 1.0.0
principles:
  - {id: brief, kind: rule, statement: At most five words., rule: {max_words: 5}}
  - {id: colour, kind: rule, statement: Name a colour., rule: {must_match: "red|blue|green|gold"}}
  - {id: kind, kind: rule, statement: Say nothing bad., rule: {must_not_match: "bad|no"}}
"""
WISHES = "{name: wishes, version: 1.0.0, principles: [{id: good, statement: Be good.}]}"
GOLD = [("say red", "bad sea", "good red", "b"), ("say blue", "good blue", "bad sky now", "a")]

_JUDGED = {
    "judges": [{"engine": "scripted", "model": "judge-random", "method": "pointwise"}],
    "constitution": "wishes.yaml",
    "out": "ledger",
}
_OFFLINE: dict[str, Any] = {
    "model": "policy",
    "learning_rate": 4e-3,
    "batch_size": 4,
    "max_steps": 6,
    "save_every": 3,
    "held_out": 0.2,
    "keep_checkpoints": True,
}
_SFT = {**_OFFLINE, "data": "demonstrations.parquet"}
_PAIRS = {**_OFFLINE, "data": "pairs.parquet"}
_ONLINE: dict[str, Any] = {
    "model": "policy",
    "prompts": {"path": "prompts.jsonl"},
    "learning_rate": 2e-3,
    "rollouts": 3,
    "rollout_size": 8,
    "minibatch_size": 4,
    "max_new_tokens": 8,
    "save_every": 1,
    "show_samples": 0,
    "keep_checkpoints": True,
}
_GROUPS = {**_ONLINE, "group_size": 4, "micro_batch": 4}
_LORA = {"r": 4, "alpha": 8}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", _SFT),
    "sft packed": ("sft", {**_SFT, "packing": True, "max_length": 32, "accumulate": 2}),
    "reward": ("reward", {**_PAIRS, "centring": 0.01, "gold": ["gold.jsonl"]}),
    "reward margin": ("reward", {**_PAIRS, "labels": "hard", "margin_scale": 0.5, "lora": _LORA}),
    "dpo soft": ("dpo", _PAIRS),
    "dpo sigmoid": ("dpo", {**_PAIRS, "loss": "sigmoid", "nll": 0.2}),
    "dpo ipo": ("dpo", {**_PAIRS, "loss": "ipo", "reference_model": "other"}),
    "dpo gdpo": ("dpo", {**_PAIRS, "loss": "gdpo", "reference": "second-model"}),
    "dpo robust": (
        "dpo",
        {**_PAIRS, "loss": "robust", "noise": 0.1, "accumulate": 2, "schedule": "cosine"},
    ),
    "dpo regression": ("dpo", {**_PAIRS, "loss": "regression", "length_normalised": True}),
    "dpo lora": (
        "dpo",
        {**_PAIRS, "lora": _LORA, "reference": "adapter-off", "nll": 0.5, "learning_rate": 2e-2},
    ),
    "ppo": (
        "ppo",
        {
            **_ONLINE,
            "reward": {"rules": "rules.yaml"},
            "critic_warmup": 1,
            "critic_learning_rate": 5e-3,
        },
    ),
    "ppo lora": (
        "ppo",
        {
            **_ONLINE,
            "reward": [{"rules": "rules.yaml"}, {"reward_model": "scorer", "weight": 0.5}],
            "length_penalty": {"per_word": 0.05, "free_words": 2},
            "responses_per_prompt": 2,
            "critic_warmup": 0,
            "critic_learning_rate": 5e-3,
            "learning_rate": 1e-2,
            "lora": _LORA,
        },
    ),
    "rloo": ("rloo", {**_GROUPS, "reward": {"reward_model": "scorer", "weight": 2.0}}),
    "grpo": ("grpo", {**_GROUPS, "reward": {"rules": "rules.yaml"}, "beta": 0.05}),
    "grpo judged": ("grpo", {**_GROUPS, "reward": {"judged": _JUDGED}, "scale_scores": "batch"}),
}
"""By name: the kind of training, and its file."""

_CLOCKS = re.compile(r"^seconds/|_runtime$|_per_second$|^step_time$|^profiling/")


def make_inputs(folder: Path) -> None:
    """Write the models and data that the training files name."""
    make_tiny(folder / "policy")
    make_tiny(folder / "other")
    save_reward_model(folder / "scorer")
    for seed, name in enumerate(("policy", "other", "scorer")):
        _make_exact(folder / name / "model.safetensors", seed)
    labels = [1.0, 0.7, 0.9, 0.55]
    margins = [0.2 * (i % 5) for i in range(24)]
    colour_pairs(24, p=labels, margin=margins).to_parquet(folder / "pairs.parquet")
    rows = [
        {"prompt": user(f"say {colour}"), "completion": assistant(f"good {colour}" + " now" * i)}
        for i in range(3)
        for colour in COLOURS
    ]
    Dataset.from_list(rows).to_parquet(folder / "demonstrations.parquet")
    gold = [
        dict(zip(("prompt", "response_a", "response_b", "label"), row, strict=True)) for row in GOLD
    ]
    _write_lines(folder / "gold.jsonl", gold)
    _write_lines(folder / "prompts.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    (folder / "rules.yaml").write_text(RULES)
    (folder / "wishes.yaml").write_text(WISHES)


def run_case(folder: Path, name: str) -> dict[str, Any]:
    """Train, or resume, in a folder that holds the inputs; return the last event of ``--json``.

    Raises:
        AssertionError: The command failed.
    """
    kind, settings = CASES[name]
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({**settings, "out": name}), encoding="utf-8")
    with one_thread():
        done = CliRunner().invoke(train.app, [kind, str(path), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    event: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return event


def record_case(folder: Path, name: str) -> dict[str, Any]:
    """Run a case and return what is compared with the recording."""
    event = run_case(folder, name)
    out = folder / name
    document = json.loads((out / "training.json").read_bytes())
    card = (out / "README.md").read_text(encoding="utf-8")
    figures = read_figures(out)
    at_end = {name: value for name, value in event["metrics"].items() if name not in figures}
    return {
        "fingerprint": document["fingerprint"],
        "plan": document["plan"],
        "figures": figures,
        "at the end": _without_clocks(at_end),
        "headings": [line for line in card.splitlines() if line.startswith("#")],
        "checkpoints": sorted(path.name for path in (out / "checkpoints").glob("checkpoint-*")),
        "files": list_files(out),
    }


def read_figures(out: Path) -> dict[str, list[Any]]:
    """Return the columns of ``metrics.jsonl``: each figure at each step, None where not measured.

    Left out are the clock's, and which side is ahead where both are equal but for rounding.
    """
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_bytes().splitlines()]
    for row in rows:
        if abs(row.get("rewards/margins", 1.0)) < 1e-6:
            row.pop("rewards/accuracies", None)
            row.pop("rewards/agreement", None)
    names = dict.fromkeys(name for row in rows for name in row)
    return _without_clocks({name: [row.get(name) for row in rows] for name in names})


def list_files(out: Path) -> list[str]:
    """Return the files below a training's folder; checkpoints without step, events without time."""
    names = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    masked = (re.sub(r"(tfevents)\..*|(checkpoint-)\d+", r"\1\2", name) for name in names)
    return sorted(set(masked))


def rewind(out: Path, step: int) -> None:
    """Put a finished training back to where it stood when the checkpoint of a step was written."""
    for path in (out / "checkpoints").glob("checkpoint-*"):
        if int(path.name.rpartition("-")[2]) > step:
            shutil.rmtree(path)
    document = json.loads((out / "training.json").read_bytes())
    document["state"] = "running"
    del document["result"]
    (out / "training.json").write_text(json.dumps(document), encoding="utf-8")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch add up in one order, whatever number of cores there is."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _without_clocks(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_clocks(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if not _CLOCKS.search(name)
    }


def _make_exact(path: Path, seed: int) -> None:
    """Replace drawn weights by fractions of 2^18, which no processor rounds."""
    draw = np.random.Generator(np.random.PCG64(seed))
    weights = load_file(path)
    for name in sorted(weights):
        if "norm" not in name:
            whole = draw.integers(-(2**15), 2**15, tuple(weights[name].shape))
            weights[name] = torch.tensor(whole * 3 / 2**18, dtype=torch.float32)
    save_file(weights, path, metadata={"format": "pt"})


def _write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Seven digits, which is more than is compared and as much as fp32 holds."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _record_all() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        make_inputs(Path(scratch))
        records = {name: _rounded(record_case(Path(scratch), name)) for name in CASES}
    text = json.dumps(records, indent=1)
    text = re.sub(r"\[[^\[\]{}]+\]", lambda row: re.sub(r"\n +", " ", row.group()), text)
    RECORDS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    _record_all()
