import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from rlaif.errors import InputError
from rlaif.training.forward.dropout import disable_dropout
from rlaif.training.forward.sequences import lay_out
from rlaif.training.ppo.actor_critic import SeparateCritic, SharedBase, value_head
from tests.training.ppo.small import make_critic, make_policy

# PEFT 0.21 asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")

BATCH = lay_out([[8, 9, 10], [11]], [[21, 22, 1], [23, 24]], pad_id=1)


def make_shared(**changes) -> SharedBase:
    torch.manual_seed(3)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    return SharedBase(get_peft_model(make_policy(), lora), **changes)


def perturb(parameters) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def logprobs(models: Any) -> Any:
    with torch.no_grad():
        return models.logprobs(BATCH)[0]


def ref_logprobs(models: Any) -> Any:
    with torch.no_grad():
        found = models.ref_logprobs(BATCH)
    assert found is not None
    return found


def test_with_adapters_off_the_reference_is_the_base():
    base = SeparateCritic(make_policy(), make_critic())
    shared = make_shared()
    perturb(shared.policy_parameters())
    perturb(shared.critic_parameters())
    assert torch.allclose(ref_logprobs(shared), logprobs(base), atol=1e-6)
    assert not torch.allclose(logprobs(shared), logprobs(base), atol=1e-3)


@pytest.mark.parametrize(
    "make", [make_shared, lambda: SeparateCritic(make_policy(), make_critic())]
)
def test_policy_critic_and_reference_do_not_touch_each_other(make):
    models = make()
    before = logprobs(models), ref_logprobs(models), models.values(BATCH).detach()
    perturb(models.critic_parameters())
    assert torch.equal(logprobs(models), before[0])
    changed = models.values(BATCH).detach()
    assert not torch.allclose(changed, before[2], atol=1e-3)
    perturb(models.policy_parameters())
    assert not torch.allclose(logprobs(models), before[0], atol=1e-3)
    assert torch.equal(models.values(BATCH).detach(), changed)
    assert torch.equal(ref_logprobs(models), before[1])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_each_backward_pass_reaches_its_own_adapter_alone(checkpointing: bool):
    shared = make_shared(checkpointing=checkpointing)
    perturb(shared.policy_parameters())  # fresh adapters hide the gradient of their first half
    perturb(shared.critic_parameters())
    torch.autograd.backward(shared.logprobs(BATCH)[0].sum())
    assert all(p.grad is not None for p in shared.policy_parameters().values())
    assert all(p.grad is None for p in shared.critic_parameters().values())
    for parameter in shared.policy_parameters().values():
        parameter.grad = None
    torch.autograd.backward(shared.values(BATCH).sum())
    assert all(p.grad is None for p in shared.policy_parameters().values())
    grads = [p.grad for p in shared.critic_parameters().values()]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)


@pytest.mark.parametrize(
    "make",
    [make_shared, lambda **c: SeparateCritic(make_policy(), make_critic(), **c)],
)
def test_activation_checkpointing_changes_no_gradient(make):
    found = []
    for checkpointing in (False, True):
        models = make(checkpointing=checkpointing)
        perturb(models.policy_parameters() | models.critic_parameters())
        torch.autograd.backward(models.values(BATCH).square().sum())
        torch.autograd.backward(models.logprobs(BATCH)[0].sum())
        parameters = models.policy_parameters() | models.critic_parameters()
        found.append([p.grad for p in parameters.values()])
    for plain, recomputed in zip(*found, strict=True):
        assert plain is not None
        assert torch.allclose(plain, recomputed, atol=1e-6)


def test_generation_works_while_checkpointing_is_on():
    models = make_shared(checkpointing=True)
    with models.sampled() as policy:
        assert policy.generate(torch.tensor([[8, 9]]), max_new_tokens=3).shape == (1, 5)


def test_lora_trains_something_and_nothing_of_the_base():
    shared = make_shared()
    trained = {id(p) for p in (shared.policy_parameters() | shared.critic_parameters()).values()}
    base = copy.deepcopy(
        {n: p for n, p in shared.policy.named_parameters() if id(p) not in trained}
    )
    assert trained
    assert base
    optimiser = torch.optim.SGD(shared.policy.parameters(), lr=1.0)
    torch.autograd.backward(shared.logprobs(BATCH)[0].sum())
    optimiser.step()
    after = dict(shared.policy.named_parameters())
    assert all(torch.equal(after[name], parameter) for name, parameter in base.items())


def test_values_start_at_zero_on_a_shared_base():
    assert make_shared().values(BATCH).abs().max() == 0


def test_values_are_those_of_the_states_before_each_action():
    models = SeparateCritic(make_policy(), make_critic())
    # The last prompt token's score is the first value: a classifier reads its last token, too.
    with torch.no_grad():
        expected = models.critic(input_ids=torch.tensor([[8, 9, 10]])).logits[0, 0]
        values = models.values(BATCH)
    assert values.shape == (5,)
    assert values[0] == pytest.approx(float(expected), abs=1e-6)


def test_without_a_reference_there_is_no_second_policy_in_memory():
    models = SeparateCritic(make_policy(), make_critic(), reference=False)
    assert models.ref_logprobs(BATCH) is None


def test_dropout_is_off_even_in_train_mode():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=40, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    )
    ids = torch.arange(10)[None]
    model.train()
    with torch.no_grad():
        assert not torch.equal(model(ids).logits, model(ids).logits)
        disable_dropout(model)
        model.train()
        assert torch.equal(model(ids).logits, model(ids).logits)


def test_a_classifier_without_a_score_layer_is_refused():
    with pytest.raises(InputError, match="no head named 'score'"):
        value_head(make_policy())


def test_bf16_is_computed_in_but_not_returned():
    models = SeparateCritic(make_policy(), make_critic(), mixed=True)
    plain = SeparateCritic(make_policy(), make_critic())
    found, _ = models.logprobs(BATCH)
    assert found.dtype == models.values(BATCH).dtype == torch.float32
    assert not torch.equal(found, plain.logprobs(BATCH)[0])
    assert torch.allclose(found, plain.logprobs(BATCH)[0], atol=0.1)
    torch.autograd.backward(found.sum())
    expected = plain.logprobs(BATCH)[0].sum()
    torch.autograd.backward(expected)
    for name, parameter in models.policy_parameters().items():
        grad, other = parameter.grad, plain.policy_parameters()[name].grad
        assert grad is not None
        assert other is not None
        assert torch.cosine_similarity(grad.flatten(), other.flatten(), dim=0) > 0.98, name
    assert torch.equal(ref_logprobs(models), logprobs(models))  # KL is 0 at step 0 in bf16, too


def test_values_are_read_in_fp32_while_bf16_is_computed_in():
    values = SeparateCritic(make_policy(), make_critic(), mixed=True).values(BATCH)
    assert not torch.equal(values, values.bfloat16().float())
