"""The trunk's forward pass: hidden states before each action, common beginnings read once.

Prompts of one rollout often start alike: with the same system message, or, where a prompt is
answered several times, with all of the prompt. Keys and values of that beginning are the same in
every row, so they are computed in one row and expanded; in the backward pass expanding is summing,
so gradients are the same, too (prefix sharing; Prefix Grouper, 2506.05433, without its two-part
attention).

Shapes: B sequences, L columns, N response tokens, D hidden size.
"""

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from rlaif.training.forward.sequences import Sequences

_LEAST_SAVED = 16
"""Tokens; saving fewer is not worth a pass of its own."""


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
        found = _read_on(trunk, ids_BL, 7)
    return bool(torch.isclose(found.float(), expected.float(), rtol=1e-2, atol=1e-2).all())


def compute_states(trunk: Any, batch: Sequences, *, share: bool) -> Tensor:
    """Return the hidden state before each action, of shape (N, D).

    Args:
        trunk: A transformers model without its head, adapted or not.
        batch: From `rlaif.training.forward.sequences.lay_out`.
        share: Read what all rows start with only once, where that saves something. Needs
            `can_share`, and no activation checkpointing, which knows no keys of another pass.
    """
    shared = batch.shared
    if share and shared * (len(batch.input_ids_BL) - 1) >= _LEAST_SAVED:
        hidden_BLD = _read_on(trunk, batch.inputs()["input_ids"], shared)
    else:
        shared = 0
        hidden_BLD = trunk(**batch.inputs(), use_cache=False).last_hidden_state
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
