"""The order of training: rows of similar length together, and the same order after a resume."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

_WINDOW = 50
"""Batches sorted among each other; enough to waste little padding, few enough to stay random."""


class LengthSampler(Sampler[int]):
    """Shuffles rows so that each batch holds rows of similar length.

    The order depends on seed and epoch alone, so a resumed training skips exactly what it has
    seen. The incomplete batch, if any, comes last.
    """

    def __init__(self, lengths: Sequence[int], *, batch: int, seed: int) -> None:
        """Prepare an order.

        Args:
            lengths: Cost of each row, in tokens.
            batch: Rows computed together, over all processes.
            seed: The training's seed.
        """
        self._lengths = tuple(lengths)
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        shuffled = torch.randperm(len(self._lengths), generator=generator).tolist()
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), self._batch * _WINDOW):
            window = shuffled[start : start + self._batch * _WINDOW]
            window.sort(key=lambda row: -self._lengths[row])
            batches += [window[i : i + self._batch] for i in range(0, len(window), self._batch)]
        full = [batch for batch in batches if len(batch) == self._batch]
        rest = [batch for batch in batches if len(batch) < self._batch]
        for place in torch.randperm(len(full), generator=generator).tolist():
            yield from full[place]
        for batch in rest:
            yield from batch


class PassSampler(Sampler[int]):
    """Another sampler's way of repeating rows, in an order that seed and epoch alone decide.

    TRL's own sampler draws each pass from where the last one left its generator, so a resumed
    training would go through the first pass's order again.

    Args:
        repeats: Draws its order from an attribute ``generator``.
        seed: The training's seed.
    """

    def __init__(self, repeats: Any, *, seed: int) -> None:
        self._repeats = repeats
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._repeats)

    def __iter__(self) -> Iterator[int]:
        self._repeats.generator.manual_seed(self._seed * 1_000_003 + self._epoch)
        yield from self._repeats


def begin_epoch(loader: Any, epoch: int) -> None:
    """Set the epoch of the sampler below a loader's wrappers.

    The libraries look for ``set_epoch`` a fixed number of wrappers down; a resumed training of
    several processes has one wrapper more.
    """
    sampler = loader
    while sampler is not None and not isinstance(sampler, LengthSampler | PassSampler):
        below = getattr(sampler, "batch_sampler", None)
        sampler = below if below is not None else getattr(sampler, "sampler", None)
    if sampler is not None:
        sampler.set_epoch(epoch)
