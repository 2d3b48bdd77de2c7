"""The output head, fused with log-softmax and gather: hidden states in, log-probabilities out.

Logits exist for one chunk of tokens at a time and are never kept for the backward pass unless they
are few; it computes them again, turns them into their gradient in place, and multiplies.

Shapes: N tokens, D hidden size, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_FEWEST, _MOST = 8, 32
"""Rows. Measured: 16 and 32 gain, 4 now and then, 1 and from 64 on nothing."""


@contextmanager
def transposed_linears(model: nn.Module) -> Iterator[None]:
    """Few rows on a CPU: a token a response is a matrix of 8 to 32 rows, which BLAS is slow with.

    With the factors the other way round, y' = W x', the long side is split among threads: two
    threads take about half the time, one thread takes the same (docs/experiments.md). Values
    differ by rounding alone.

    Inside, linear layers in fp32 on a CPU multiply the other way round where rows are few.

    For drawing only, without gradients. Layers whose ``forward`` is already replaced stay as they
    are.
    """
    layers = [
        layer
        for layer in model.modules()
        if type(layer) is nn.Linear
        and (layer.weight.device.type, layer.weight.dtype) == ("cpu", torch.float32)
        and "forward" not in vars(layer)
    ]
    for layer in layers:
        vars(layer)["forward"] = partial(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    rows = x.numel() // layer.in_features
    if not _FEWEST <= rows <= _MOST or x.dtype != torch.float32:
        return functional.linear(x, layer.weight, layer.bias)
    y_RO = (layer.weight @ x.reshape(rows, layer.in_features).T).T.contiguous()
    if layer.bias is not None:
        y_RO += layer.bias
    return y_RO.view(*x.shape[:-1], layer.out_features)


_CHUNK_NUMBERS = 2**24
"""Logits made at a time: 64 MiB in fp32, some 340 tokens of a vocabulary of 49,152."""


@dataclass(frozen=True, slots=True)
class Head:
    """What turns a hidden state into logits: softcap(scale · (W h + b)) / temperature."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    """logits ← softcap · tanh(logits / softcap) (Gemma 2)."""

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Return fp32 logits at temperature 1."""
        dtype = _compute_dtype(hidden_ND)
        bias_V = None if self.bias_V is None else self.bias_V.to(dtype)
        logits_NV = nn.functional.linear(hidden_ND.to(dtype), self.weight_VD.to(dtype), bias_V)
        logits_NV = logits_NV.float()
        if self.scale != 1.0:
            logits_NV = logits_NV * self.scale
        if self.softcap is not None:
            logits_NV = self.softcap * torch.tanh(logits_NV / self.softcap)
        return logits_NV


def head_logprobs(
    hidden_ND: Tensor, actions_N: Tensor, head: Head, *, temperature: float, entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """Return log-probabilities of the actions and, if asked for, entropies; in nats, fp32."""
    rows = max(1, _CHUNK_NUMBERS // head.weight_VD.shape[0])
    few = len(hidden_ND) <= rows
    outputs = [
        _Chunk.apply(  # type: ignore[no-untyped-call]
            hidden_ND[i : i + rows],
            head.weight_VD,
            head.bias_V,
            actions_N[i : i + rows],
            (head, temperature, entropy, few),
        )
        for i in range(0, len(hidden_ND), rows)
    ]
    logprobs_N = torch.cat([logprobs_N for logprobs_N, _ in outputs])
    return logprobs_N, torch.cat([entropy_N for _, entropy_N in outputs]) if entropy else None


class _Chunk(torch.autograd.Function):
    """log softmax(z)_a and H = −Σ p log p for z = head(h) / temperature.

    With p = softmax(z): ∂ log p_a / ∂z_j = 1[j = a] − p_j and ∂H / ∂z_j = −p_j (log p_j + H).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        actions_N: Tensor,
        settings: tuple[Head, float, bool, bool],
    ) -> tuple[Tensor, Tensor | None]:
        head, temperature, entropy, keep = settings
        ctx.set_materialize_grads(False)
        ctx.settings = (head, temperature)
        ctx.dtype = _compute_dtype(hidden_ND)
        logprobs_NV = _all_logprobs(head, hidden_ND, temperature)
        logprobs_N = logprobs_NV.gather(1, actions_N[:, None]).squeeze(1)
        entropy_N = -(logprobs_NV.exp() * logprobs_NV).sum(dim=1) if entropy else None
        kept = logprobs_NV if keep else None
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, actions_N, kept)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor | None, grad_entropy_N: Tensor | None) -> Any:
        hidden_ND, weight_VD, bias_V, actions_N, logprobs_NV = ctx.saved_tensors
        head, temperature = ctx.settings
        if logprobs_NV is None:
            logprobs_NV = _all_logprobs(head, hidden_ND.to(ctx.dtype), temperature)
        pull_NV = _gradient_of_logits(logprobs_NV, actions_N, grad_N, grad_entropy_N)
        pull_NV /= temperature
        if head.softcap is not None:
            capped_NV = head.logits(hidden_ND.to(ctx.dtype)) / head.softcap
            pull_NV *= 1.0 - capped_NV.square()
        pull_NV *= head.scale
        pull_NV = pull_NV.to(ctx.dtype)
        need_hidden, need_weight, need_bias, *_ = ctx.needs_input_grad
        return (
            (pull_NV @ weight_VD.to(ctx.dtype)).to(hidden_ND.dtype) if need_hidden else None,
            (pull_NV.T @ hidden_ND.to(ctx.dtype)).to(weight_VD.dtype) if need_weight else None,
            pull_NV.sum(dim=0).to(bias_V.dtype) if need_bias and bias_V is not None else None,
            None,
            None,
        )


def _all_logprobs(head: Head, hidden_ND: Tensor, temperature: float) -> Tensor:
    logits_NV = head.logits(hidden_ND)
    return (logits_NV / temperature if temperature != 1.0 else logits_NV).log_softmax(dim=1)


def _gradient_of_logits(
    logprobs_NV: Tensor, actions_N: Tensor, grad_N: Tensor | None, grad_entropy_N: Tensor | None
) -> Tensor:
    """Return the gradient for the tempered logits."""
    p_NV = logprobs_NV.exp()
    pull_NV = torch.zeros_like(p_NV) if grad_N is None else p_NV * -grad_N[:, None]
    if grad_N is not None:
        pull_NV.scatter_add_(1, actions_N[:, None], grad_N[:, None])
    if grad_entropy_N is not None:
        entropy_N = -(p_NV * logprobs_NV).sum(dim=1)
        pull_NV -= grad_entropy_N[:, None] * p_NV * (logprobs_NV + entropy_N[:, None])
    return pull_NV


def _compute_dtype(hidden_ND: Tensor) -> torch.dtype:
    device = hidden_ND.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return hidden_ND.dtype
