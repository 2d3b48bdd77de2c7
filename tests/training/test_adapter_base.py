"""A folder that holds an adapter alone is a model to start from: its base with the adapter in."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif.errors import InputError
from rlaif.training.dpo.train import train_dpo
from rlaif.training.models import (
    context_length,
    identify_model,
    load_policy,
    load_scorer,
    need_reward_model,
)
from rlaif.training.reward.train import train_reward
from rlaif.training.reward_model_scorer import reward_model_scorer
from tests.training.tiny import colour_pairs, make_tiny, user

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")
IDS = torch.tensor([[4, 5, 6, 7]])
LORA: dict[str, Any] = {"lora": {"r": 4}, "learning_rate": 2e-2, "max_steps": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    base = make_tiny(folder / "base")
    train_dpo(dataset=colour_pairs(16), model=base, out=folder / "dpo", **LORA)
    train_reward(dataset=colour_pairs(16), model=base, out=folder / "rm", held_out=0.0, **LORA)
    return folder


def test_an_adapter_folder_is_its_base_with_the_adapter_in(trained: Path):
    merged, _ = load_policy(str(trained / "dpo"), frozen=True)
    policy, tokenizer = load_policy(str(trained / "dpo" / "adapter"), frozen=True)
    base, _ = load_policy(str(trained / "base"), frozen=True)
    torch.testing.assert_close(policy(IDS).logits, merged(IDS).logits, rtol=1e-5, atol=1e-5)
    assert (policy(IDS).logits - base(IDS).logits).abs().max() > 1e-3
    assert not hasattr(policy, "peft_config")
    assert tokenizer.chat_template
    assert context_length(str(trained / "dpo" / "adapter")) == 128


def test_training_goes_on_from_an_adapter_which_is_then_the_reference(
    trained: Path, tmp_path: Path
):
    adapter = trained / "dpo" / "adapter"
    for name, lora in (("whole", None), ("lora", {"r": 2})):
        result = train_dpo(
            dataset=colour_pairs(16), model=adapter, out=tmp_path / name, lora=lora, max_steps=1
        )
        assert result.metrics["rewards/margins"] == pytest.approx(0.0, abs=1e-4)


def test_an_adapter_of_a_reward_model_scores(trained: Path):
    adapter = trained / "rm" / "adapter"
    need_reward_model(str(adapter))
    prompts: Any = [user("say red")] * 2
    replies = ["good red", "bad"]
    whole: Any = reward_model_scorer(str(trained / "rm"))(prompts, replies)
    assert reward_model_scorer(str(adapter))(prompts, replies) == pytest.approx(whole, abs=1e-5)


def test_a_policys_adapter_starts_a_reward_model_and_is_none(trained: Path):
    adapter = str(trained / "dpo" / "adapter")
    scorer: Any = load_scorer(adapter)[0]
    assert scorer.score.weight.shape == (1, 32)
    with pytest.raises(InputError, match="not a reward model"):
        need_reward_model(adapter)
    with pytest.raises(InputError, match="not a reward model"):
        reward_model_scorer(adapter)


def test_without_a_tokenizer_of_its_own_the_bases_is_used(trained: Path, tmp_path: Path):
    copy = tmp_path / "adapter"
    shutil.copytree(trained / "dpo" / "adapter", copy)
    for path in copy.glob("tokenizer*"):
        path.unlink()
    assert load_policy(str(copy))[1].chat_template


def test_a_base_that_is_not_there_is_named(trained: Path, tmp_path: Path):
    copy = tmp_path / "adapter"
    shutil.copytree(trained / "dpo" / "adapter", copy)
    path = copy / "adapter_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "/no/such"})
    )
    with pytest.raises(InputError, match="/no/such not found"):
        load_policy(str(copy))
    path.write_text("{}")
    with pytest.raises(InputError, match="adapter_config"):
        load_policy(str(copy))


def test_an_adapter_counts_by_its_weights_and_its_base(trained: Path, tmp_path: Path):
    adapter = trained / "dpo" / "adapter"
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    assert identify_model(str(other)) == identify_model(str(adapter))
    (other / "adapter_model.safetensors").write_bytes(b"x" * 100)
    assert identify_model(str(other)) != identify_model(str(adapter))
