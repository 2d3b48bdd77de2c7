"""The model's forward pass in three shapes: read prompts, decode one token, read whole sequences.

Axes: B rows, N positions whose next token is asked for, V vocabulary. Everything that depends on
padding is here. Sequences are padded on the right, where a causal model cannot see it, and what all
of them start with is read once; models whose layers keep a state want padding on the left, and
share nothing. Masks come from lengths, never from token ids, because many models pad with their
end-of-sequence token.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from rlaif.engines.local.rows import Rows, is_joinable, padding_mask

_SHORTEST_PREFIX = 16  # a shared prefix below this is not worth a pass of its own


class Forward:
    """A causal language model. Not thread-safe: one per worker.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.config = model.config.get_text_config()
        self.vocabulary: int = self.config.vocab_size
        self.joinable = is_joinable(self.config)
        known = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in known
        self._takes_keep = "logits_to_keep" in known

    def prefill(self, sequences: Sequence[Sequence[int]]) -> tuple[Any, torch.Tensor]:
        """Read prompts; return the filled cache and the next token's logits, (B, V).

        Rows of the cache start at its first column if the model is joinable, else they end at
        its last.
        """
        if self.joinable:
            return self._read(sequences, [[len(one) - 1] for one in sequences], keep=True)
        width = max(map(len, sequences))
        ids = torch.zeros((len(sequences), width), dtype=torch.long)
        mask = torch.zeros((len(sequences), width), dtype=torch.long)
        for row, sequence in enumerate(sequences):
            ids[row, width - len(sequence) :] = torch.tensor(sequence)
            mask[row, width - len(sequence) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.config)
        logits = self._call(ids, mask.to(self.device), positions, cache, keep=1)
        return cache, logits[:, -1]

    def step(self, rows: Rows, tokens: Sequence[int]) -> torch.Tensor:
        """Read one token per row; return the next token's logits, (B, V)."""
        ids = torch.tensor(tokens)[:, None]
        positions = torch.tensor(rows.lengths)[:, None]
        mask = padding_mask(rows, self.device)
        logits = self._call(ids, mask, positions, rows.cache, keep=1)
        rows.advance()
        return logits[:, -1]

    def read(
        self, sequences: Sequence[Sequence[int]], asked: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Return the next token's logits at the positions asked for, row after row, (N, V).

        Args:
            sequences: Tokens to read.
            asked: Positions per sequence, counted from 0.
        """
        return self._read(sequences, asked, keep=False)[1]

    def _read(
        self, sequences: Sequence[Sequence[int]], asked: Sequence[Sequence[int]], *, keep: bool
    ) -> tuple[Any, torch.Tensor]:
        prefix = self._shared_prefix(sequences, min(min(positions) for positions in asked))
        cache: Any = DynamicCache(config=self.config) if keep or prefix else None
        if prefix:
            ids = torch.tensor([sequences[0][:prefix]])
            self._call(ids, None, None, cache, keep=1)
            cache.reorder_cache(torch.zeros(len(sequences), dtype=torch.long))
        rest = [sequence[prefix:] for sequence in sequences]
        width = max(map(len, rest))
        ids = torch.zeros((len(rest), width), dtype=torch.long)
        for row, sequence in enumerate(rest):
            ids[row, : len(sequence)] = torch.tensor(sequence)
        flat = [
            row * width + at - prefix for row, positions in enumerate(asked) for at in positions
        ]
        chosen = torch.tensor(flat, device=self.device)
        return cache, self._call_at(ids, cache, chosen)

    def _shared_prefix(self, sequences: Sequence[Sequence[int]], most: int) -> int:
        if len(sequences) < 2 or not self.joinable:
            return 0
        ordered = [list(sequence) for sequence in sequences]
        shared = min(common_prefix(min(ordered), max(ordered)), most)
        return shared if shared >= _SHORTEST_PREFIX else 0

    def _call_at(self, ids: torch.Tensor, cache: Any, chosen: torch.Tensor) -> torch.Tensor:
        """Read on from the cache; the head sees only the chosen places of the flattened (B, T)."""
        head = self.model.get_output_embeddings()
        if head is None:
            logits = self._call(ids, None, None, cache, keep=0)
            return logits.flatten(0, 1)[chosen]

        def choose(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (inputs[0].flatten(0, 1)[chosen][None], *inputs[1:])

        # Whatever a model does behind its head (scaling, soft caps) is done to each logit alone.
        hook = head.register_forward_pre_hook(choose)
        try:
            return self._call(ids, None, None, cache, keep=0)[0]
        finally:
            hook.remove()

    def _call(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None,
        positions: torch.Tensor | None,
        cache: Any,
        *,
        keep: int,
    ) -> torch.Tensor:
        """Run the model. Without mask and positions the tokens just follow those of the cache."""
        arguments: dict[str, Any] = {"attention_mask": mask, "use_cache": cache is not None}
        if self._takes_positions and positions is not None:
            arguments["position_ids"] = positions.to(self.device)
        if self._takes_keep and keep:
            arguments["logits_to_keep"] = keep
        output = self.model(input_ids=ids.to(self.device), past_key_values=cache, **arguments)
        logits: torch.Tensor = output.logits
        return logits


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens both start with."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))
