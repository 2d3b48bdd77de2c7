from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MambaConfig, MambaModel

from rlaif.training.forward.logprobs import can_share, causal_model, compute_states
from rlaif.training.forward.sequences import lay_out
from rlaif.training.ppo import actor_critic
from rlaif.training.ppo.actor_critic import SeparateCritic, SharedBase
from tests.training.ppo.small import make_critic, make_policy

# PEFT 0.21 asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")

SYSTEM = [8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
BATCH = lay_out(
    [[*SYSTEM, 18, 19], [*SYSTEM, 20], [*SYSTEM, 18, 21, 22]],
    [[21, 22, 1], [23, 24, 25, 26, 1], [27]],
    pad_id=1,
)


def make_separate(**changes: Any) -> Any:
    return SeparateCritic(make_policy(), make_critic(), **changes)


def make_shared(**changes: Any) -> Any:
    torch.manual_seed(3)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    return SharedBase(get_peft_model(make_policy(), lora), **changes)


def perturb(parameters: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def count_tokens(module: Any) -> list[int]:
    """How many tokens each coming forward pass of a model reads."""
    read: list[int] = []
    module.register_forward_pre_hook(
        lambda _, _args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    return read


def learn(models: Any) -> tuple[Any, dict[str, Any]]:
    """Log-probabilities, reference, values, and all gradients."""
    perturb(models.policy_parameters() | models.critic_parameters())
    logprobs, entropy = models.logprobs(BATCH, entropy=True)
    torch.autograd.backward(logprobs.square().sum() + entropy.sum())
    with torch.no_grad():
        reference = models.ref_logprobs(BATCH)
    values = models.values(BATCH)
    torch.autograd.backward((values - 1.0).square().sum())
    trained = models.policy_parameters() | models.critic_parameters()
    found = torch.cat([logprobs.detach(), entropy.detach(), reference, values.detach()])
    return found, {name: p.grad for name, p in trained.items()}


@pytest.mark.parametrize("make", [make_separate, make_shared])
def test_a_shared_beginning_changes_neither_outputs_nor_gradients(monkeypatch, make):
    found, grads = learn(make())
    monkeypatch.setattr(actor_critic, "can_share", lambda _trunk: False)
    expected, plain = learn(make())
    assert torch.allclose(found, expected, atol=1e-5)
    assert grads.keys() == plain.keys()
    for name, grad in grads.items():
        assert grad.abs().sum() > 0, name
        assert torch.allclose(grad, plain[name], atol=1e-5, rtol=1e-4), name


def test_a_shared_beginning_is_read_once():
    models = make_separate()
    read = count_tokens(models.policy.base_model)
    models.logprobs(BATCH)
    longest = 1 + 5 - 1  # what follows the system message, but for the last token
    assert read == [len(SYSTEM), 3 * longest]


def test_the_answers_to_one_prompt_share_all_but_its_last_token():
    batch = lay_out([SYSTEM] * 4, [[21], [22, 23], [24], [25, 1]], pad_id=1)
    assert batch.shared == len(SYSTEM) - 1


def test_a_beginning_that_would_save_too_little_is_read_in_every_row():
    models = make_separate()
    read = count_tokens(models.policy.base_model)
    models.logprobs(lay_out([[8, 9, 10], [8, 9, 11]], [[21], [22]], pad_id=1))
    assert read == [2 * 3]


@pytest.mark.parametrize("make", [make_separate, make_shared])
def test_nothing_is_shared_with_activation_checkpointing(make):
    models = make(checkpointing=True)
    read = count_tokens(causal_model(models.policy).base_model)
    models.logprobs(BATCH)
    assert len(read) == 1


def test_sliding_windows_shorter_than_the_beginning_give_the_same_states():
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        max_position_embeddings=64,
    )
    trunk = Gemma3ForCausalLM(config).base_model
    assert can_share(trunk)
    with torch.no_grad():
        found = compute_states(trunk, BATCH, share=True)
        expected = compute_states(trunk, BATCH, share=False)
    assert torch.allclose(found, expected, atol=1e-5)


def test_layers_that_keep_a_state_share_nothing():
    config = MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, state_size=4)
    assert not can_share(MambaModel(config))


def test_a_model_that_takes_no_cache_shares_nothing(monkeypatch):
    trunk = make_policy().base_model
    forward = trunk.forward
    monkeypatch.setattr(trunk, "forward", lambda input_ids: forward(input_ids=input_ids))
    assert not can_share(trunk)


def test_what_no_longer_agrees_when_read_on_is_not_shared(monkeypatch):
    """As with an architecture that takes positions from somewhere else than its cache."""
    trunk = make_policy().base_model
    forward = trunk.forward

    def forgetful(*, past_key_values: Any = None, **inputs: Any) -> Any:
        return forward(**inputs)

    assert can_share(trunk)
    monkeypatch.setattr(trunk, "forward", forgetful)
    assert not can_share(trunk)


def test_one_row_alone_shares_nothing():
    models = make_separate()
    read = count_tokens(models.policy.base_model)
    batch = lay_out([[*SYSTEM, *SYSTEM, 8]], [[21, 22]], pad_id=1)
    models.logprobs(batch)
    assert read == [22]
