"""What stops a training once it has begun, as a person at the command line sees it.

One clear message, the right exit code, what was reached on disk, and the same command resumes.
"""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaModel

from rlaif.cli.main import main
from rlaif.serving import scorer as scorers
from tests.training.ppo.small import PROMPTS, count_word
from tests.training.tiny import colour_pairs, make_tiny

RULES = """
name: rules
version: 1.0.0
principles:
  - {id: brief, kind: rule, statement: At most four words., rule: {max_words: 4}}
"""
ONLINE: dict[str, Any] = {
    "prompts": {"path": "p.jsonl"},
    "reward": {"rules": "rules.yaml"},
    "rollouts": 3,
    "rollout_size": 8,
    "minibatch_size": 8,
    "max_new_tokens": 6,
    "show_samples": 0,
}
KINDS: dict[str, dict[str, Any]] = {"ppo": {"critic_warmup": 0}, "grpo": {"group_size": 4}}
pytestmark = [
    # PEFT and TRL ask transformers 5.23 by the old name
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def run(tmp_path: Path, capfdbinary, monkeypatch) -> Callable[[str], tuple[int, str, Any]]:
    """Type `rlaif train KIND train.yaml --json`; give exit code, stderr and the last event."""

    def typed(kind: str) -> tuple[int, str, Any]:
        words = ["rlaif", "train", kind, str(tmp_path / "train.yaml"), "--json"]
        monkeypatch.setattr(sys, "argv", words)
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        shown = capfdbinary.readouterr()
        events = [json.loads(line) for line in shown.out.splitlines()]
        return int(caught.value.code or 0), shown.err.decode(), events[-1] if events else None

    return typed


def write(folder: Path, **settings: Any) -> None:
    (folder / "train.yaml").write_text(json.dumps({**settings, "out": "out"}))


def write_online(folder: Path, kind: str, model: Path, **changes: Any) -> None:
    (folder / "rules.yaml").write_text(RULES)
    (folder / "p.jsonl").write_text("\n".join(json.dumps({"prompt": p}) for p in PROMPTS))
    write(folder, model=str(model), **{**ONLINE, **KINDS[kind], **changes})


def bad_at_the_second_call(bad: Callable[[list[str]], Any]) -> Any:
    calls = 0

    def score(prompts: Any, responses: list[str], **_: Any) -> Any:
        nonlocal calls
        calls += 1
        return bad(responses) if calls == 2 else count_word(prompts, responses)

    return score


def _raise(_: list[str]) -> Any:
    raise ValueError("no such key")


FAULTS: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "raises": (_raise, "the scorer failed: ValueError: no such key"),
    "returns NaN": (lambda r: [float("nan")] * len(r), "score 0 is nan"),
    "returns too few": (lambda _: [1.0], "the scorer returned 1 scores for 8 responses"),
    "returns no list": (lambda _: 1.0, "not a list of 8 scores"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_reward_stops_with_one_message_and_the_command_resumes(
    kind: str, fault: str, model: Path, tmp_path: Path, run, monkeypatch
):
    bad, message = FAULTS[fault]
    write_online(tmp_path, kind, model)
    score = bad_at_the_second_call(bad)
    monkeypatch.setattr(scorers, "_build", lambda *_, **__: score)
    code, said, _ = run(kind)
    assert (code, message in said, "Traceback" in said) == (1, True, False), said
    code, said, event = run(kind)  # the third call of the scorer is well
    assert (code, event["resumed_from"]) == (0, 1), said


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_that_hangs_is_given_up_and_what_was_reached_is_kept(
    kind: str, model: Path, tmp_path: Path, run, monkeypatch
):
    let = threading.Event()

    def hang(responses: list[str]) -> Any:
        let.wait(60)
        return [0.0] * len(responses)

    write_online(tmp_path, kind, model, scorer_timeout=2.0)
    score = bad_at_the_second_call(hang)
    monkeypatch.setattr(scorers, "_build", lambda *_, **__: score)
    code, said, _ = run(kind)
    let.set()
    assert (code, "has not answered for 2 seconds" in said) == (1, True), said
    assert "Traceback" not in said
    code, said, event = run(kind)
    assert (code, event["resumed_from"]) == (0, 1), said


@pytest.mark.parametrize("kind", KINDS)
def test_judges_that_are_down_stop_training_resumable(
    kind: str, model: Path, tmp_path: Path, run, dead_port: int
):
    judge = {
        "name": "j",
        "engine": "openai",
        "model": "m",
        "base_url": f"http://127.0.0.1:{dead_port}/v1",
        "method": "pointwise",
        "options": {"max_outage_s": 0.2},
    }
    judged = {"judges": [judge], "constitution": "hhh", "out": "ledger"}
    write_online(tmp_path, kind, model, reward={"judged": judged})
    code, said, _ = run(kind)
    assert (code, "127.0.0.1" in said, "Traceback" in said) == (3, True, False), said


TRAININGS: dict[str, dict[str, Any]] = {
    "sft": {"data": "demonstrations.parquet", "batch_size": 4, "max_steps": 4},
    "dpo": {"data": "pairs.parquet", "batch_size": 4, "max_steps": 4},
    "reward": {"data": "pairs.parquet", "batch_size": 4, "max_steps": 4, "held_out": 0},
    "ppo": {},
    "grpo": {"micro_batch": 8},
}


@pytest.mark.parametrize("kind", TRAININGS)
def test_running_out_of_memory_is_one_message_and_the_command_resumes(
    kind: str, model: Path, tmp_path: Path, run, monkeypatch
):
    if kind in KINDS:
        write_online(tmp_path, kind, model, **TRAININGS[kind])
    else:
        pairs = colour_pairs(16, p=0.9)
        pairs.to_parquet(tmp_path / "pairs.parquet")
        asked = pairs.rename_column("chosen", "completion").select_columns(["prompt", "completion"])
        asked.to_parquet(tmp_path / "demonstrations.parquet")
        write(tmp_path, model=str(model), **TRAININGS[kind])
    forward = LlamaModel.forward
    rounds = 0

    def run_out(self: Any, *places: Any, **options: Any) -> Any:
        nonlocal rounds
        read = options.get("past_key_values")
        if torch.is_grad_enabled() and (read is None or not read.get_seq_length()):
            rounds += 1  # what reads on from another pass counts as one with it
            if rounds == _AT[kind]:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, *places, **options)

    monkeypatch.setattr(LlamaModel, "forward", run_out)
    code, said, _ = run(kind)
    assert (code, "out of memory" in said, "Traceback" in said) == (1, True, False), said
    assert "gradient_checkpointing" in said  # what to do about it
    code, said, event = run(kind)
    assert (code, event["event"]) == (0, "finished"), said
    assert event["resumed_from"] == 1


_AT = {"sft": 2, "dpo": 2, "reward": 2, "ppo": 5, "grpo": 2}
"""The forward pass with gradients at which memory runs out: the first of the second step."""
