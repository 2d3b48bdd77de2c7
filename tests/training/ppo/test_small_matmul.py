"""Linear layers turned round while drawing: the same values, and nothing of it stays."""

from typing import Any

import pytest
import torch
from torch import nn

from rlaif.training.forward.head import transposed_linears
from rlaif.training.ppo.sampling import sample_responses
from tests.training.ppo.small import make_policy


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (8, 24), (4, 5, 24), (32, 1, 24), (33, 24), (24,)])
def test_a_turned_layer_gives_the_same_values_in_the_same_layout(
    shape: tuple[int, ...], bias: bool
):
    layer = nn.Linear(24, 40, bias=bias)
    x = torch.randn(shape)
    with torch.no_grad():
        plain = layer(x)
        with transposed_linears(layer):
            turned = layer(x)
    assert torch.allclose(turned, plain, atol=1e-5)
    assert (turned.shape, turned.stride()) == (plain.shape, plain.stride())


def test_nothing_of_it_stays_even_after_an_error():
    model = make_policy()

    def fail() -> None:
        assert any("forward" in vars(module) for module in model.modules())
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"), transposed_linears(model):
        fail()
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_layer_that_somebody_else_has_changed_is_left_alone():
    layer = nn.Linear(24, 40)
    own = vars(layer)["forward"] = lambda x: x
    with transposed_linears(layer):
        assert layer.forward is own
    assert layer.forward is own


def test_other_types_of_numbers_are_multiplied_as_ever():
    layer = nn.Linear(24, 40, dtype=torch.bfloat16)
    with transposed_linears(layer):
        assert "forward" not in vars(layer)


def test_responses_are_the_same_as_one_at_a_time():
    model = make_policy()
    settings: dict[str, Any] = {"stop_ids": [1], "pad_id": 1, "max_new_tokens": 12}
    prompts = [[8, 9, 10 + n] for n in range(16)]
    together = sample_responses(model, prompts, range(16), **settings)
    for n, drawn in enumerate(together):
        (alone,) = sample_responses(model, [prompts[n]], [n], **settings)
        assert drawn.tokens == alone.tokens
        assert drawn.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
