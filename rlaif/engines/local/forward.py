"""The model's forward pass in three shapes: read prompts, decode one token, read whole sequences.

Axes: B rows, N positions whose next token is asked for, V vocabulary. Everything that depends on
padding is here. Sequences are padded on the right, where a causal model cannot see it. What all of
them start with is read once, and kept for the next pass, which often starts with the same
instructions and conversation. Models whose layers keep a state need padding on the left, and share
nothing. Masks come from lengths, never from token ids, because many models pad with their
end-of-sequence token.
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from rlaif.engines.local.calls import ScoreRequest, out_of_memory
from rlaif.engines.local.chat import Chat
from rlaif.engines.local.draw import not_finite
from rlaif.engines.local.rows import Rows, is_joinable, padding_mask
from rlaif.engines.protocol import Reply, Usage

_SHORTEST_PREFIX = 16  # tokens; reading fewer together is not worth a separate pass
_MOST_KEPT = 4096  # tokens; bounds the memory that is held between passes


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
        self.kept: Sequence[int] = ()
        """What the last passes read and the next one need not, should it start with it."""
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []  # keys and values of `kept`

    def prefill(self, sequences: Sequence[Sequence[int]]) -> tuple[Any, torch.Tensor]:
        """Read prompts; return the filled cache and the next token's logits, (B, V).

        Rows of the cache start at its first column if the model is joinable, else they end at
        its last.
        """
        if self.joinable:
            return self._read(sequences, [[len(ids) - 1] for ids in sequences], keep=True)
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
        self, sequences: Sequence[Sequence[int]], places: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Return the next token's logits at the positions asked for, row after row, (N, V).

        Args:
            sequences: Tokens to read.
            places: Positions per sequence, counted from 0.
        """
        return self._read(sequences, places, keep=False)[1]

    def _read(
        self, sequences: Sequence[Sequence[int]], places: Sequence[Sequence[int]], *, keep: bool
    ) -> tuple[Any, torch.Tensor]:
        cache: Any = DynamicCache(config=self.config) if keep or self.joinable else None
        start = self._start(sequences, places, cache) if self.joinable else 0
        rest = [sequence[start:] for sequence in sequences]
        width = max(map(len, rest))
        ids = torch.zeros((len(rest), width), dtype=torch.long)
        for row, sequence in enumerate(rest):
            ids[row, : len(sequence)] = torch.tensor(sequence)
        flat = [
            row * width + at - start for row, positions in enumerate(places) for at in positions
        ]
        chosen = torch.tensor(flat, device=self.device)
        logits = self._call_at(ids, cache, chosen)
        if self.joinable and len(sequences) == 1:
            self._keep(sequences[0][: places[0][0]], cache)
        return cache, logits

    def _start(
        self, sequences: Sequence[Sequence[int]], places: Sequence[Sequence[int]], cache: Any
    ) -> int:
        """Fill the cache with what need not be read in every row; return how many tokens that is.

        What is kept from the last pass comes first, then what only these sequences share.
        """
        most = min(min(positions) for positions in places)
        ordered = [list(sequence) for sequence in sequences]
        shared = ordered[0][: min(common_prefix(min(ordered), max(ordered)), most)]
        start = common_prefix(self.kept, shared)
        if start < _SHORTEST_PREFIX:
            start = 0
        for layer, (keys, values) in zip(cache.layers, self._layers if start else (), strict=False):
            layer.update(keys[:, :, :start], values[:, :, :start])
        if (len(sequences) - 1) * (len(shared) - start) >= _SHORTEST_PREFIX:
            self._call(torch.tensor([shared[start:]]), None, None, cache, keep=1)
            start = len(shared)
            self._keep(shared, cache)
        if len(sequences) > 1 and start:
            cache.reorder_cache(torch.zeros(len(sequences), dtype=torch.long))
        return start

    def _keep(self, tokens: Sequence[int], cache: Any) -> None:
        """Keep what was read of the only row, for the next pass."""
        if not all(layer.is_initialized for layer in cache.layers):
            return  # some models have layers that use the keys of others
        self.kept = tokens[:_MOST_KEPT]
        part = (slice(None), slice(None), slice(len(self.kept)))
        self._layers = [
            (layer.keys[part].clone(), layer.values[part].clone()) for layer in cache.layers
        ]

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


def common_prefix(first: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens both start with."""
    for at, (left, right) in enumerate(zip(first, other, strict=False)):
        if left != right:
            return at
    return min(len(first), len(other))


_POSITIONS_AT_A_TIME = 64  # positions; bounds the float32 copy of their logits


def measure(forward: Forward, chat: Chat, requests: Sequence[ScoreRequest]) -> None:
    """Read sequences: log-probabilities of labels, and of given continuations.

    Probabilities are softmax values in float32 over the whole vocabulary, before any temperature.

    Read sequences in one pass and answer their calls; in halves if memory runs out.

    Raises:
        EngineError: The model's logits are NaN or infinite.
    """
    try:
        _measure(forward, chat, requests)
    except torch.OutOfMemoryError:
        if forward.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(requests) == 1:
            requests[0].call.fail(out_of_memory())
            return
        half = len(requests) // 2
        measure(forward, chat, requests[:half])
        measure(forward, chat, requests[half:])


def _measure(forward: Forward, chat: Chat, requests: Sequence[ScoreRequest]) -> None:
    places = [range(request.first, len(request.ids)) for request in requests]
    logits_NV = forward.read([request.ids for request in requests], places)
    place = 0
    for request, positions in zip(requests, places, strict=True):
        own_NV = logits_NV[place : place + len(positions)]
        place += len(positions)
        answer = _labels(own_NV[0], request, chat) if request.labels else _score(own_NV, request)
        request.call.answer((0,), answer)


def _labels(logits_V: torch.Tensor, request: ScoreRequest, chat: Chat) -> Reply:
    logprobs_V = logits_V.float().log_softmax(-1)
    values = [float(logprobs_V[list(ids)].logsumexp(-1)) for ids in request.label_ids]
    _check(values)
    return Reply(
        chat.text([int(logprobs_V.argmax())]),
        label_logprobs=tuple(min(value, 0.0) for value in values),
        usage=Usage(prompt_tokens=len(request.ids)),
    )


def _score(logits_NV: torch.Tensor, request: ScoreRequest) -> Reply:
    total = 0.0
    for start in range(0, len(request.targets), _POSITIONS_AT_A_TIME):
        part = slice(start, start + _POSITIONS_AT_A_TIME)
        logits = logits_NV[part].float()
        targets = torch.tensor(request.targets[part], device=logits.device)
        chosen = logits.gather(-1, targets[:, None]).squeeze(-1)
        total += float((chosen - logits.logsumexp(-1)).sum(dtype=torch.float64))
    _check([total])
    return Reply(
        logprob=min(total, 0.0),
        scored_tokens=len(request.targets),
        usage=Usage(prompt_tokens=len(request.ids) + 1),
    )


def _check(values: Sequence[float]) -> None:
    if any(math.isnan(value) for value in values):
        raise not_finite()
