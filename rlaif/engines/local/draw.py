"""Drawing the next token: temperature and nucleus, by inverting the cumulative distribution.

One uniform number per row decides, so a row's text depends on its own logits and numbers alone,
whichever rows it was batched with. Axes: B rows, V vocabulary.
"""

import torch

from rlaif.errors import EngineError

_BLOCK = 256
_LIKELIEST = (128, 2048)  # the nucleus is sought among so many tokens before all are sorted


def draw_tokens(
    logits_BV: torch.Tensor,
    *,
    temperatures: list[float],
    top_ps: list[float],
    uniforms: list[float],
) -> list[int]:
    """Draw one token per row.

    Args:
        logits_BV: Any float dtype.
        temperatures: ≥ 0 per row; 0 takes the most likely token.
        top_ps: In (0, 1] per row. Below 1, only the most likely tokens that together reach it
            can be drawn: the smallest such set.
        uniforms: In (0, 1) per row; not looked at where the temperature is 0.

    Raises:
        EngineError: The model's logits are NaN or infinite.
    """
    tokens = [-1] * len(temperatures)
    greedy = [row for row, t in enumerate(temperatures) if t == 0.0]
    plain = [row for row, t in enumerate(temperatures) if t > 0.0 and top_ps[row] >= 1.0]
    nucleus = [row for row, t in enumerate(temperatures) if t > 0.0 and top_ps[row] < 1.0]
    _check(logits_BV)
    if greedy:
        _put(tokens, greedy, _take(logits_BV, greedy).argmax(-1))
    for rows, invert in ((plain, _invert), (nucleus, _invert_nucleus)):
        if rows:
            weights_BV = _weights(_take(logits_BV, rows), [temperatures[row] for row in rows])
            uniforms_B = _column([uniforms[row] for row in rows], weights_BV)
            top_ps_B = _column([top_ps[row] for row in rows], weights_BV)
            _put(tokens, rows, invert(weights_BV, uniforms_B, top_ps_B))
    return tokens


def not_finite() -> EngineError:
    """What is raised when a model gives NaN where logits should be."""
    return EngineError(
        "the model's logits are NaN or infinite", hint="set options.dtype to float32 or bfloat16"
    )


def _check(logits_BV: torch.Tensor) -> None:
    # A maximum is NaN if any entry is, so one pass finds both NaN and infinity.
    if not bool(torch.isfinite(logits_BV.amax(-1)).all()):
        raise not_finite()


def _take(logits_BV: torch.Tensor, rows: list[int]) -> torch.Tensor:
    return logits_BV if len(rows) == logits_BV.shape[0] else logits_BV[rows]


def _put(tokens: list[int], rows: list[int], drawn_B: torch.Tensor) -> None:
    for row, token in zip(rows, drawn_B.tolist(), strict=True):
        tokens[row] = token


def _column(values: list[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, device=like.device)


def _weights(logits_BV: torch.Tensor, temperatures: list[float]) -> torch.Tensor:
    """Probabilities up to a factor per row; the most likely token has 1."""
    weights_BV = logits_BV.float()
    weights_BV = weights_BV - weights_BV.amax(-1, keepdim=True)
    if any(t != 1.0 for t in temperatures):
        weights_BV /= torch.tensor(temperatures, device=weights_BV.device)[:, None]
    return weights_BV.exp_()


def _invert(weights_BV: torch.Tensor, uniforms_B: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The first token at which the cumulative weight exceeds the row's share of the total.

    In two steps, blocks first: a running sum over a whole vocabulary is slow and loses digits.
    """
    missing = -weights_BV.shape[-1] % _BLOCK
    if missing:
        weights_BV = torch.nn.functional.pad(weights_BV, (0, missing))
    blocks = weights_BV.view(len(weights_BV), -1, _BLOCK)
    cumulative = blocks.sum(-1).double().cumsum(-1)
    target_B = uniforms_B * cumulative[:, -1]
    block_B = _first_above(cumulative, target_B)
    rows_B = torch.arange(len(block_B), device=block_B.device)
    before_B = torch.where(block_B > 0, cumulative[rows_B, (block_B - 1).clamp(min=0)], 0.0)
    inside = blocks[rows_B, block_B].double()
    return block_B * _BLOCK + _place(inside, target_B - before_B)


def _invert_nucleus(
    weights_BV: torch.Tensor, uniforms_B: torch.Tensor, top_ps_B: torch.Tensor
) -> torch.Tensor:
    """The same among the nucleus alone, its tokens in order of likelihood."""
    vocabulary = weights_BV.shape[-1]
    wanted_B = top_ps_B * weights_BV.sum(-1).double()
    drawn_B = torch.zeros_like(wanted_B, dtype=torch.long)
    open_B = torch.arange(len(drawn_B), device=drawn_B.device)  # rows without a token
    for count in (*_LIKELIEST, vocabulary):
        # Ties are broken by the sort, and differently by different kinds of it: one kind only.
        likeliest = weights_BV[open_B].topk(min(count, vocabulary))
        values = likeliest.values.double()
        reached = values.sum(-1) >= wanted_B[open_B]
        if count >= vocabulary:
            reached = torch.ones_like(reached)
        done_B = open_B[reached]
        drawn_B[done_B] = _draw_sorted(
            values[reached], likeliest.indices[reached], wanted_B[done_B], uniforms_B[done_B]
        )
        open_B = open_B[~reached]
        if len(open_B) == 0:
            break
    return drawn_B


def _draw_sorted(
    values: torch.Tensor, ids: torch.Tensor, wanted_B: torch.Tensor, uniforms_B: torch.Tensor
) -> torch.Tensor:
    before = values.cumsum(-1) - values
    kept = torch.where(before < wanted_B[:, None], values, 0.0)
    place_B = _place(kept, uniforms_B * kept.sum(-1))
    return ids.gather(-1, place_B[:, None]).squeeze(-1)


def _place(weights: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
    """Where the cumulative weight first exceeds the target: always at a token of some weight."""
    places = torch.arange(weights.shape[-1], device=weights.device)
    last_B = torch.where(weights > 0, places, 0).amax(-1)
    return torch.minimum(_first_above(weights.cumsum(-1), target_B), last_B)


def _first_above(cumulative: torch.Tensor, target_B: torch.Tensor) -> torch.Tensor:
    count = (cumulative <= target_B[:, None]).sum(-1)
    return count.clamp(max=cumulative.shape[-1] - 1)
