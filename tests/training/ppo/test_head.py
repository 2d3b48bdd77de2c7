import pytest
import torch
from torch import nn

from rlaif.training.forward import head as head_module
from rlaif.training.forward.head import Head, head_logprobs
from rlaif.training.forward.logprobs import compute_logprobs, find_head
from rlaif.training.forward.sequences import lay_out
from tests.training.ppo.small import make_policy


def both_ways(head: Head, hidden, actions, temperature: float):
    """Log-probabilities, entropies and gradients: ours, and by plain autograd."""
    leaves = [t for t in (hidden, head.weight_VD, head.bias_V) if t is not None]
    pull = torch.linspace(-1, 1, len(actions)), torch.linspace(2, 1, len(actions))
    ours = head_logprobs(hidden, actions, head, temperature=temperature, entropy=True)
    all_logprobs = (head.logits(hidden) / temperature).log_softmax(-1)
    plain = (
        all_logprobs.gather(1, actions[:, None]).squeeze(1),
        -(all_logprobs.exp() * all_logprobs).sum(-1),
    )
    found = []
    for logprobs, entropy in (ours, plain):
        assert entropy is not None
        total = (logprobs * pull[0]).sum() + (entropy * pull[1]).sum()
        found.append((logprobs, entropy, *torch.autograd.grad(total, leaves)))
    return found


@pytest.mark.parametrize("chunk", [2**24, 20])  # one chunk, kept; and many, computed again
@pytest.mark.parametrize(("scale", "softcap", "temperature"), [(1, None, 1), (0.5, 3.0, 0.7)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_plain_autograd(
    monkeypatch, chunk: int, scale: float, softcap: float | None, temperature: float, bias: bool
):
    monkeypatch.setattr(head_module, "_CHUNK_NUMBERS", chunk)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    hidden, weight, offset = draw(7, 4), draw(9, 4), draw(9) if bias else None
    actions = torch.tensor([0, 8, 3, 3, 1, 7, 2])
    ours, plain = both_ways(Head(weight, offset, scale, softcap), hidden, actions, temperature)
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a.double(), b.double(), atol=1e-5)


def test_frozen_weights_get_no_gradient_and_hidden_states_still_do():
    hidden = torch.randn(3, 4, requires_grad=True)
    weight = torch.randn(5, 4)
    logprobs, entropy = head_logprobs(
        hidden, torch.tensor([0, 1, 2]), Head(weight), temperature=1.0, entropy=False
    )
    assert entropy is None
    torch.autograd.backward(logprobs.sum())
    assert hidden.grad is not None
    assert weight.grad is None


def test_the_model_gives_the_same_numbers_with_and_without_our_head():
    model = make_policy()
    batch = lay_out([[8, 9], [10, 11, 12]], [[13, 1], [14, 15, 16]], pad_id=1)
    head = find_head(model)
    assert head is not None
    with torch.no_grad():
        ours, entropy = compute_logprobs(model, batch, head, temperature=0.7, entropy=True)
        plain, plain_entropy = compute_logprobs(model, batch, None, temperature=0.7, entropy=True)
    assert entropy is not None
    assert plain_entropy is not None
    assert torch.allclose(ours, plain, atol=1e-5)
    assert torch.allclose(entropy, plain_entropy, atol=1e-5)


def test_a_model_that_changes_its_logits_after_the_head_is_found_out():
    model = make_policy()

    class Doubling(type(model)):  # type: ignore[misc]
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = out.logits * 2
            return out

    model.__class__ = Doubling
    assert find_head(model) is None
    batch = lay_out([[8, 9]], [[13, 1]], pad_id=1)
    with torch.no_grad():
        plain, _ = compute_logprobs(model, batch, None)
        expected = model(input_ids=torch.tensor([[8, 9, 13, 1]])).logits.log_softmax(-1)
    assert torch.allclose(plain, torch.stack([expected[0, 1, 13], expected[0, 2, 1]]), atol=1e-6)


def test_a_head_that_is_not_a_plain_layer_is_left_alone():
    model = make_policy()
    model.lm_head = nn.Sequential(model.lm_head)
    assert find_head(model) is None
