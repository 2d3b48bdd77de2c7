"""Prompt and response tokens, laid side by side for one forward pass.

Everything a trainer needs to know about a token is computed here from *lengths*. No mask ever
comes from comparing with the pad token, because many tokenizers pad with their end-of-sequence
token, and the end of a response is an action like any other.

Shapes: B sequences, L columns (prompt + response + padding), N response tokens in all, flat,
in row order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class Sequences:
    """A padded batch, and where in it the policy acted."""

    input_ids_BL: Tensor
    """Padded on the right, where causal attention never looks: no mask is needed."""

    rows_N: Tensor
    columns_N: Tensor
    """Row and column of the *state before* each action: the position whose output predicts it."""

    actions_N: Tensor
    """The response tokens, the end-of-sequence token included."""

    shared: int = 0
    """So many first columns are the same in every row, and no action is predicted from there."""

    @property
    def read_BL(self) -> Tensor:  # noqa: N802 - the axes of a tensor are capitals
        """What a model reads: all but the last column, from which nothing is predicted."""
        return self.input_ids_BL[:, :-1]


def lay_out(
    prompts: Sequence[Tokens],
    responses: Sequence[Tokens],
    *,
    pad_id: int,
    device: torch.device | str = "cpu",
) -> Sequences:
    """Pad prompts and responses into one batch.

    Args:
        prompts: Token ids, at least one each.
        responses: Token ids, at least one each.
        pad_id: Any id of the vocabulary; what it is changes nothing.
        device: Where the tensors are made.
    """
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    ids_BL = torch.full((len(lengths), max(lengths)), pad_id, dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids_BL[row, : lengths[row]] = torch.tensor([*prompt, *response])
        rows.extend([row] * len(response))
        columns.extend(range(len(prompt) - 1, lengths[row] - 1))
    actions = [token for response in responses for token in response]
    return Sequences(
        input_ids_BL=ids_BL.to(device),
        rows_N=torch.tensor(rows, device=device),
        columns_N=torch.tensor(columns, device=device),
        actions_N=torch.tensor(actions, device=device),
        shared=_count_shared(prompts),
    )


def _count_shared(prompts: Sequence[Tokens]) -> int:
    """Return how many tokens all prompts start with, short of the last one of any."""
    least, most = min(map(list, prompts)), max(map(list, prompts))  # only these two need comparing
    ends = min(map(len, prompts)) - 1
    pairs = zip(least[:ends], most, strict=False)
    return next((at for at, (token, other) in enumerate(pairs) if token != other), ends)


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
