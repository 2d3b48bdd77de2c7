from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from rlaif.errors import ConfigError, InputError, RunMismatch, TrainingError
from rlaif.training.harness import save
from rlaif.training.harness.metrics import read_metrics
from rlaif.training.online import train_grpo, train_rloo
from tests.training.ppo.small import PROMPTS, count_word, save_policy

QUICK: dict[str, Any] = {
    "rollouts": 2,
    "rollout_size": 8,
    "minibatch_size": 8,
    "micro_batch": 4,
    "group_size": 4,
    "max_new_tokens": 8,
    "learning_rate": 1e-3,
    "show_samples": 0,
}
# PEFT 0.21 asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_policy(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr(save, "draw_curves", lambda *_: False)


def train(kind: Any, model: Path, out: Path, scorer: Any = count_word, **changes: Any) -> Any:
    return kind(prompts=PROMPTS, model=model, scorer=scorer, out=out, **QUICK | changes)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (train_rloo, {"normalise_advantages": True, "score_clip": 5.0}),
        (train_grpo, {"scale_scores": "batch", "beta": 0.01}),
    ],
)
@pytest.mark.slow
def test_both_methods_raise_the_count_of_a_word(kind, changes, model: Path, tmp_path: Path):
    settings = {"rollouts": 20, "rollout_size": 32, "minibatch_size": 16, "micro_batch": 16}
    train(kind, model, tmp_path / "out", **settings | {"learning_rate": 3e-3} | changes)
    # The last row sums the training up and holds no reward.
    rewards = [row["reward"] for row in read_metrics(tmp_path / "out") if "reward" in row]
    assert sum(rewards[:2]) / 2 < 0.6
    assert sum(rewards[-3:]) / 3 > 1.2


@pytest.mark.parametrize(
    ("kind", "changes"),
    [(train_rloo, {}), (train_grpo, {}), (train_rloo, {"lora": {"r": 4, "alpha": 8}})],
)
def test_a_short_training_leaves_a_policy_and_a_card(kind, changes, model: Path, tmp_path: Path):
    result = train(kind, model, tmp_path / "out", **changes)
    assert result.steps == 2
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert "| reward |" in (tmp_path / "out" / "README.md").read_text()
    assert train(kind, model, tmp_path / "out", **changes).already_finished


def test_the_scorer_sees_conversations_ids_and_tags_and_may_be_async(model: Path, tmp_path: Path):
    seen: list[Any] = []

    async def score(prompts, responses, **columns):
        seen.append((prompts, columns))
        return count_word(prompts, responses)

    train(train_rloo, model, tmp_path / "out", score, rollouts=1)
    prompts, columns = seen[0]
    assert prompts[0][-1]["content"] in PROMPTS
    assert set(columns) == {"prompt_id", "tags"}
    assert len(columns["prompt_id"]) == len(prompts) == 8


def test_unscored_responses_are_left_out(model: Path, tmp_path: Path):
    def half(prompts, responses, **columns):
        return [None if i % 2 else score for i, score in enumerate(count_word(prompts, responses))]

    assert train(train_grpo, model, tmp_path / "out", half, rollouts=1).steps == 1


def failing_at(number: int) -> Any:
    """Return a scorer of which one call fails."""
    calls = 0

    def score(prompts, responses, **columns):
        nonlocal calls
        calls += 1
        if calls == number:
            raise ValueError("no such key")
        return count_word(prompts, responses)

    return score


def test_a_failing_scorer_is_one_message_and_what_was_reached_is_kept(model: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match="the scorer failed: ValueError: no such key"):
        train(train_rloo, model, tmp_path / "out", failing_at(2))
    assert train(train_rloo, model, tmp_path / "out").resumed_from == 1


def test_settings_that_do_not_fit_are_refused(model: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="not a multiple of group_size 3"):
        train(train_rloo, model, tmp_path / "out", group_size=3)
    with pytest.raises(InputError, match="needs 16 different prompts, but only 8 are given"):
        train(train_rloo, model, tmp_path / "out", rollout_size=64)


@pytest.mark.parametrize(("kind", "changes"), [(train_rloo, {}), (train_grpo, {"beta": 0.05})])
def test_a_resumed_training_takes_the_steps_of_an_uninterrupted_one(
    kind, changes, model: Path, tmp_path: Path
):
    changes = changes | {"rollouts": 8, "minibatch_size": 4, "seed": 3}
    train(kind, model, tmp_path / "whole", **changes)
    # Four rollouts are a pass over the prompts: this is in the second.
    with pytest.raises(TrainingError):
        train(kind, model, tmp_path / "parts", failing_at(6), **changes)
    torch.manual_seed(999)  # what a new process starts from is another state of the generators
    assert train(kind, model, tmp_path / "parts", **changes).resumed_from == 10
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(("kind", "changes"), [(train_rloo, {}), (train_grpo, {"beta": 0.05})])
def test_what_only_costs_memory_may_change_between_attempts(
    kind, changes, model: Path, tmp_path: Path
):
    train(kind, model, tmp_path / "whole", **changes)
    with pytest.raises(TrainingError):
        train(kind, model, tmp_path / "parts", failing_at(2), **changes)
    smaller = {"micro_batch": 2, "gradient_checkpointing": True}
    assert train(kind, model, tmp_path / "parts", **changes, **smaller).resumed_from == 1
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, parts[name], rtol=1e-3, atol=1e-5)


def test_micro_batch_counts_where_the_loss_is_divided_by_its_tokens(model: Path, tmp_path: Path):
    train(train_grpo, model, tmp_path / "out", rollouts=1, loss="bnpo")
    with pytest.raises(RunMismatch, match="micro_batch"):
        train(train_grpo, model, tmp_path / "out", rollouts=1, loss="bnpo", micro_batch=2)
