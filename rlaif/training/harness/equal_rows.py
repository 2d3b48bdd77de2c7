"""Every row of an optimiser step counts alike, whatever micro-batch it came in.

The libraries take the mean over micro-batches of means over rows, so that in 8 + 8 + 2 rows the
last two count four times as much as the others.
"""

from collections.abc import Iterator
from typing import Any

import torch


class EqualRows:
    """Put before a transformers Trainer whose loss is a mean over rows with ``chosen_prob``."""

    _weight_of_row: float | None = None

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Count the rows of the step that begins."""
        ahead: Any = super()
        batches, items = ahead.get_batch_samples(epoch_iterator, num_batches, device)
        rows = sum(len(batch["chosen_prob"]) for batch in batches)
        self._weight_of_row = len(batches) / rows if rows else None
        return batches, items

    def share_of(self, rows: int) -> float:
        """Return what a micro-batch's mean is multiplied by, before the mean over micro-batches."""
        if not torch.is_grad_enabled() or self._weight_of_row is None:
            return 1.0
        return rows * self._weight_of_row

    def gather_rows(self, values_BK: torch.Tensor) -> list[list[float]]:
        """Return K lists, of every row that all processes computed now.

        In training all micro-batches of a step are read ahead, and then the library would take the
        first for the last of an epoch and drop what that has not.
        """
        accelerator: Any = vars(self)["accelerator"]
        training = torch.is_grad_enabled()
        gather = accelerator.gather if training else accelerator.gather_for_metrics
        columns: list[list[float]] = gather(values_BK).T.tolist()
        return columns
