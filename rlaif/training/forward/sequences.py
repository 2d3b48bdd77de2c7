"""Prompt and response tokens, laid side by side for one forward pass.

Everything a trainer needs to know about a token is computed here from *lengths*. No mask ever
comes from comparing with the pad token, because many tokenizers pad with their end-of-sequence
token, and the end of a response is an action like any other.

Shapes: B sequences, L columns (prompt + response + padding), N response tokens in all, flat,
in row order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class Sequences:
    """A padded batch, and where in it the policy acted."""

    input_ids_BL: Tensor
    attention_mask_BL: Tensor | None
    """None where all padding lies to the right: causal attention never looks there."""

    position_ids_BL: Tensor | None
    """None where a sequence starts in column 0."""

    rows_N: Tensor
    columns_N: Tensor
    """Row and column of the *state before* each action: the position whose output predicts it."""

    actions_N: Tensor
    """The response tokens, the end-of-sequence token included."""

    shared: int = 0
    """So many first columns are the same in every row, and no action is predicted from there."""

    def inputs(self) -> dict[str, Tensor]:
        """Return keyword arguments for a transformers model.

        The last column is left out: nothing follows it, so nothing is predicted from there.
        """
        given = {
            "input_ids": self.input_ids_BL,
            "attention_mask": self.attention_mask_BL,
            "position_ids": self.position_ids_BL,
        }
        return {name: tensor[:, :-1] for name, tensor in given.items() if tensor is not None}


def lay_out(
    prompts: Sequence[Tokens],
    responses: Sequence[Tokens],
    *,
    pad_id: int,
    side: Literal["left", "right"] = "right",
    extra: int = 0,
    device: torch.device | str = "cpu",
) -> Sequences:
    """Pad prompts and responses into one batch.

    Args:
        prompts: Token ids, at least one each.
        responses: Token ids, at least one each.
        pad_id: Any id of the vocabulary; what it is changes nothing.
        side: Where padding goes. ``right`` is cheaper; both give the same numbers.
        extra: Columns of padding beyond what the longest sequence needs.
        device: Where the tensors are made.
    """
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    width = max(lengths) + extra
    starts = [width - n if side == "left" else 0 for n in lengths]
    ids_BL = torch.full((len(lengths), width), pad_id, dtype=torch.long)
    mask_BL = torch.zeros((len(lengths), width), dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        start, n = starts[row], lengths[row]
        ids_BL[row, start : start + n] = torch.tensor([*prompt, *response])
        mask_BL[row, start : start + n] = 1
        first = start + len(prompt) - 1
        rows.extend([row] * len(response))
        columns.extend(range(first, first + len(response)))
    actions = [token for response in responses for token in response]
    left = side == "left"
    position_ids_BL = (mask_BL.cumsum(dim=1) - 1).clamp(min=0)
    return Sequences(
        input_ids_BL=ids_BL.to(device),
        attention_mask_BL=mask_BL.to(device) if left else None,
        position_ids_BL=position_ids_BL.to(device) if left else None,
        rows_N=torch.tensor(rows, device=device),
        columns_N=torch.tensor(columns, device=device),
        actions_N=torch.tensor(actions, device=device),
        shared=0 if left else _count_shared(prompts),
    )


def _count_shared(prompts: Sequence[Tokens]) -> int:
    """Return how many tokens all prompts start with, short of the last one of any."""
    least, most = min(map(list, prompts)), max(map(list, prompts))  # only these two need comparing
    ends = min(map(len, prompts)) - 1
    pairs = zip(least[:ends], most, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), ends)


def split_by_tokens(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Group indices so that no group pads to more than ``most`` tokens; longest first.

    Sequences of similar length land together, so little is computed for padding. A sequence longer
    than ``most`` stands alone.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups: list[list[int]] = []
    for i in order:
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= most:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
