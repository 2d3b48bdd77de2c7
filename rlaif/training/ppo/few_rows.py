"""Few rows on a CPU: a token a response is a matrix of 8 to 32 rows, which BLAS is slow with.

With the factors the other way round, y' = W x', the long side is split among threads: two threads
take about half the time, one thread takes the same (docs/experiments.md). Values
differ by rounding alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

_FEWEST, _MOST = 8, 32
"""Rows. Measured: 16 and 32 gain, 4 now and then, 1 and from 64 on nothing."""


@contextmanager
def turned_linears(model: nn.Module) -> Iterator[None]:
    """Inside, linear layers in fp32 on a CPU multiply the other way round where rows are few.

    For drawing only: not meant for gradients. Layers whose ``forward`` somebody else has replaced
    are left alone.
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
