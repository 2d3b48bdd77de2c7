"""Soft labels for trainers that know only hard ones.

A label p = P(chosen is better) belongs in the loss: p·ℓ(chosen > rejected) + (1 − p)·ℓ(rejected >
chosen). Where a trainer cannot take it, three things come near, and the data card says which was
done:

- *threshold*: only pairs with p ≥ τ, as if they were certain;
- *repeat*: every pair N times, round(p·N) times as labelled and the rest the other way round, which
  is the soft loss itself up to rounding (|error in p| ≤ 1/(2N)), at N times the data;
- *smoothing*: one ε = mean(1 − p) for all pairs, which is right on average and wrong for each.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from rlaif.pipeline.export.shape import Record


@dataclass(slots=True)
class Labels:
    """What is done to the pairs on their way out, and what was seen."""

    min_margin: float = 0.0
    repeat: int = 1
    kept: int = 0
    left_out: int = 0
    _doubts: list[float] = field(default_factory=list)

    @property
    def smoothing(self) -> float | None:
        """mean(1 − p) over the pairs kept; None where records have no p."""
        return math.fsum(self._doubts) / len(self._doubts) if self._doubts else None

    def apply(self, records: Iterator[Record]) -> Iterator[Record]:
        """Yield what is to be written."""
        for record in records:
            margin = record.get("margin")
            # As when pairs were made: 2 · 0.7 − 1 is 0.4, though not in floats.
            if margin is not None and margin < self.min_margin - 1e-9:
                self.left_out += 1
                continue
            self.kept += 1
            p = record.get("chosen_prob")
            if p is not None:
                self._doubts.append(1.0 - p)
            if p is None or self.repeat == 1:
                yield record
            else:
                yield from _copies(record, p, self.repeat)


def _copies(record: Record, p: float, count: int) -> Iterator[Record]:
    """As labelled and swapped, in the proportion of the label; a margin has no meaning then."""
    as_labelled = math.floor(p * count + 0.5)
    swapped = {
        **record,
        "chosen": record["rejected"],
        "rejected": record["chosen"],
        "chosen_id": record["rejected_id"],
        "rejected_id": record["chosen_id"],
    }
    for copy in range(count):
        yield {**(record if copy < as_labelled else swapped), "margin": 0.0}
