"""Preference pairs as batches, in three layouts.

``shared``  one row per pair, [prompt | chosen | rejected | padding]: the prompt is computed once.
            The rejected response takes the positions right after the prompt and does not see the
            chosen one, so every number is what two separate rows would give.
``apart``   two rows per pair, all chosen first; only response positions go through the head.
``trl``     TRL's own batch, for its fused GPU kernels and its own losses.

The first two say where things are by position in the flattened batch: ``score_positions`` predict
the response tokens ``score_labels`` of the responses ``score_rows``, and each response ends at
``ends`` (chosen first, then rejected).

Axes: B pairs, T tokens of a row, N response tokens of the batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from trl.trainer.dpo_trainer import DataCollatorForPreference

Layout = Literal["shared", "apart", "trl"]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PairCollator:
    """Turns token rows into a batch, with ``chosen_prob`` and reference log-probabilities."""

    pad_id: int
    layout: Layout
    margin: bool = False
    """Whether batches hold the column ``margin``, as floats."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return the batch; see the module for what it holds."""
        wanted = ["chosen_prob"]
        if self.layout == "trl":
            batch: dict[str, Tensor] = DataCollatorForPreference(pad_token_id=self.pad_id)(rows)
            _leave_out_users(batch["completion_mask"], rows)
        else:
            batch = _shared(rows, self.pad_id) if self.layout == "shared" else self._apart(rows)
            wanted += ["ref_chosen_logps", "ref_rejected_logps"]
        for name in wanted:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])
        if self.margin:
            batch["margin"] = torch.tensor([float(row["margin"]) for row in rows])
        return batch

    def _apart(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        sides = [(row["prompt_ids"], row[name]) for name in _REPLIES for row in rows]
        width = max(len(prompt) + len(reply) for prompt, reply in sides)
        ids_2BT = torch.full((len(sides), width), self.pad_id)
        mask_2BT = torch.zeros((len(sides), width), dtype=torch.long)
        scored = _Scored(width)
        masks = [row.get(name) for name in _MASKS for row in rows]
        for place, (prompt, reply) in enumerate(sides):
            end = len(prompt) + len(reply)
            ids_2BT[place, :end] = torch.tensor([*prompt, *reply])
            mask_2BT[place, :end] = 1
            scored.add(place, place, range(len(prompt) - 1, end - 1), reply, masks[place])
            scored.ends.append(place * width + end - 1)
        return {"input_ids": ids_2BT, "attention_mask": mask_2BT, **scored.tensors(len(sides))}


_REPLIES = ("chosen_ids", "rejected_ids")
_MASKS = ("chosen_learned", "rejected_learned")

COLUMNS = ("prompt_ids", *_REPLIES, *_MASKS, "chosen_prob", "margin")
"""What a token row may hold."""


def _leave_out_users(mask_2BT: Tensor, rows: Sequence[Row]) -> None:
    """Take the turns of users and tools inside responses out of TRL's mask, in place."""
    for side, name in enumerate(_MASKS):
        for place, row in enumerate(rows):
            if (learned := row.get(name)) is not None:
                start = len(row["prompt_ids"])
                own = mask_2BT[side * len(rows) + place, start : start + len(learned)]
                own &= torch.tensor(learned, dtype=own.dtype)


def pair_length(row: Row, layout: Layout) -> int:
    """Tokens a row costs, for batching rows of similar length."""
    prompt, chosen, rejected = (len(row[name]) for name in ("prompt_ids", *_REPLIES))
    return prompt + chosen + rejected if layout == "shared" else prompt + max(chosen, rejected)


def _shared(rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
    width = max(pair_length(row, "shared") for row in rows)
    ids_BT = torch.full((len(rows), width), pad_id)
    positions_BT = torch.arange(width).repeat(len(rows), 1)
    sees_BTT = torch.ones(width, width, dtype=torch.bool).tril().repeat(len(rows), 1, 1)
    scored = _Scored(width)
    ends_of_rejected: list[int] = []
    for place, row in enumerate(rows):
        prompt, chosen, rejected = (row[name] for name in ("prompt_ids", *_REPLIES))
        first, second = len(prompt), len(prompt) + len(chosen)
        end = second + len(rejected)
        ids_BT[place, :end] = torch.tensor([*prompt, *chosen, *rejected])
        positions_BT[place, second:end] -= len(chosen)
        sees_BTT[place, second:, first:second] = False
        of_chosen, of_rejected = (row.get(name) for name in _MASKS)
        scored.add(place, place, range(first - 1, second - 1), chosen, of_chosen)
        before = [first - 1, *range(second, end - 1)]  # both replies continue the same prompt
        scored.add(place, len(rows) + place, before[: len(rejected)], rejected, of_rejected)
        scored.ends.append(place * width + (second - 1))
        ends_of_rejected.append(place * width + (end - 1 if rejected else first - 1))
    scored.ends += ends_of_rejected
    return {
        "input_ids": ids_BT,
        "position_ids": positions_BT,
        "attention_mask": sees_BTT[:, None],
        **scored.tensors(2 * len(rows)),
    }


class _Scored:
    """Collects which positions predict which response tokens of which response."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._positions: list[int] = []
        self._labels: list[int] = []
        self._rows: list[int] = []
        self.ends: list[int] = []

    def add(
        self,
        row: int,
        reply: int,
        before: Sequence[int],
        labels: Sequence[int],
        learned: Sequence[bool] | None,
    ) -> None:
        kept = [True] * len(labels) if learned is None else learned
        for column, label, keep in zip(before, labels, kept, strict=True):
            if keep:
                self._positions.append(row * self._width + column)
                self._labels.append(label)
                self._rows.append(reply)

    def tensors(self, replies: int) -> dict[str, Tensor]:
        rows_N = torch.tensor(self._rows)
        return {
            "score_positions": torch.tensor(self._positions),
            "score_labels": torch.tensor(self._labels),
            "score_rows": rows_N,
            "lengths": torch.bincount(rows_N, minlength=replies),
            "ends": torch.tensor(self.ends),
        }
