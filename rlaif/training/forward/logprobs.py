"""Log-probabilities of response tokens, without logits for prompts or for padding.

The trunk runs over whole sequences; the output head runs only at the N positions that predict a
response token. Logits are divided by the sampling temperature, so that these are the
log-probabilities of the distribution that was sampled from.

Shapes: N response tokens, B sequences, L columns, V vocabulary.
"""

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from rlaif.training.forward.head import Head, head_logprobs
from rlaif.training.forward.sequences import Sequences


def find_head(model: nn.Module) -> Head | None:
    """Return the model's output head, or None when the model does something else after it.

    Whether trunk and head together give the model's own logits is *tried*, on a few tokens, not
    assumed: architectures scale, cap or mix logits in ways no list keeps up with.
    """
    whole = causal_model(model)
    layer = whole.get_output_embeddings()
    if type(layer) is not nn.Linear:
        return None
    config = whole.config.get_text_config()
    scaling = getattr(config, "logits_scaling", None)
    scale = getattr(config, "logit_scale", None) or (1.0 / scaling if scaling else 1.0)
    head = Head(layer.weight, layer.bias, scale, getattr(config, "final_logit_softcapping", None))
    tokens_BL = (torch.arange(5, device=layer.weight.device) % layer.weight.shape[0])[None]
    with torch.no_grad():
        expected = whole(input_ids=tokens_BL, use_cache=False).logits.float()
        hidden = whole.base_model(input_ids=tokens_BL, use_cache=False).last_hidden_state
        ours = head.logits(hidden)
    same = ours.shape == expected.shape and torch.allclose(ours, expected, rtol=1e-2, atol=1e-2)
    return head if same else None


def compute_logprobs(
    model: nn.Module,
    batch: Sequences,
    head: Head | None,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
    share: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return the log-probability of every action, and the entropy of its distribution, in nats.

    Args:
        model: A causal language model, adapted or not.
        batch: From `rlaif.training.forward.sequences.lay_out`.
        head: From `find_head`; None runs the model's own forward, with all its logits.
        temperature: What logits are divided by; > 0.
        entropy: Whether to compute entropies, with gradient where gradients are on.
        share: See `rlaif.training.forward.logprobs.compute_states`; takes effect with a head only.
    """
    whole = causal_model(model)
    if head is not None:
        hidden_ND = compute_states(whole.base_model, batch, share=share)
        return head_logprobs(
            hidden_ND, batch.actions_N, head, temperature=temperature, entropy=entropy
        )
    logits_BLV = whole(input_ids=batch.read_BL, use_cache=False).logits
    logits_NV = logits_BLV[batch.rows_N, batch.columns_N].float() / temperature
    all_NV = logits_NV.log_softmax(dim=-1)
    picked_N = all_NV.gather(1, batch.actions_N[:, None]).squeeze(1)
    return picked_N, -(all_NV.exp() * all_NV).sum(dim=-1) if entropy else None


def causal_model(model: nn.Module) -> Any:
    """Return the transformers model inside adapters; their layers stay in effect."""
    inner = getattr(model, "get_base_model", None)
    return cast("nn.Module", inner()) if inner is not None else model


_LEAST_SAVED = 16
"""Tokens; saving fewer is not worth a second pass."""


def can_share(trunk: Any) -> bool:
    """Return whether a beginning that was read in one row gives the same states in all.

    Only where every layer keeps plain keys and values, and then it is *tried*, on a few tokens.
    """
    if "past_key_values" not in inspect.signature(trunk.forward).parameters:
        return False
    cache: Any = DynamicCache(config=trunk.config.get_text_config())
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    if not cache.layers or any(type(layer) not in plain for layer in cache.layers):
        return False
    device = next(trunk.parameters()).device
    ids_BL = (torch.arange(12, device=device) % trunk.config.get_text_config().vocab_size)[None]
    ids_BL = torch.cat([ids_BL, ids_BL])
    ids_BL[1, 8:] = ids_BL[1, :4]
    with torch.no_grad():
        expected = trunk(input_ids=ids_BL, use_cache=False).last_hidden_state[:, 7:]
        shared = _read_on(trunk, ids_BL, 7)
    return bool(torch.isclose(shared.float(), expected.float(), rtol=1e-2, atol=1e-2).all())


def compute_states(trunk: Any, batch: Sequences, *, share: bool) -> Tensor:
    """Return the hidden state before each action, of shape (N, D).

    Args:
        trunk: A transformers model without its head, adapted or not.
        batch: From `rlaif.training.forward.sequences.lay_out`.
        share: Read what all rows start with only once, where that saves something. Needs
            `can_share`, and no activation checkpointing, which cannot use keys of another pass.
    """
    shared = batch.shared
    if share and shared * (len(batch.input_ids_BL) - 1) >= _LEAST_SAVED:
        hidden_BLD = _read_on(trunk, batch.read_BL, shared)
    else:
        shared = 0
        hidden_BLD = trunk(input_ids=batch.read_BL, use_cache=False).last_hidden_state
    return hidden_BLD[batch.rows_N, batch.columns_N - shared]


def _read_on(trunk: Any, ids_BL: Tensor, shared: int) -> Tensor:
    """Return the states of all columns after the first ``shared``, which are alike in all rows."""
    cache: Any = DynamicCache(config=trunk.config.get_text_config())
    trunk(input_ids=ids_BL[:1, :shared], past_key_values=cache, use_cache=True)
    for layer in cache.layers:
        if not layer.is_initialized:
            continue  # a layer that uses the keys of another
        layer.keys = layer.keys.expand(len(ids_BL), -1, -1, -1)
        layer.values = layer.values.expand(len(ids_BL), -1, -1, -1)
    output = trunk(input_ids=ids_BL[:, shared:], past_key_values=cache, use_cache=True)
    hidden_BLD: Tensor = output.last_hidden_state
    return hidden_BLD
