"""Reading a model only where it matters: log-probabilities of responses, scores at their ends.

On a CPU every position that is computed costs. Here the output head runs over the wanted positions
alone, and, where the architecture allows it, a prompt is computed once for both responses of a
pair. Everything goes through the model's own ``forward``, so distributed wrappers and adapters
stay in effect.
"""

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from rlaif.training.data.pairs import Layout, PairCollator
from rlaif.training.forward.head import Head, head_logprobs
from rlaif.training.forward.logprobs import causal_model

_CLOSE = 1e-3
"""By how much the two layouts may differ on a probe of a few tokens."""

Read = Callable[[Tensor], Tensor]


def attach_scoring(model: Any, head: Head) -> None:
    """Let ``model(..., score_positions=, score_labels=)`` return log-probabilities ``[N]``.

    Args:
        model: A causal language model, adapted or not; changed in place.
        head: Its output head.
    """

    def read(hidden_ND: Tensor, score_labels: Tensor) -> Tensor:
        return head_logprobs(hidden_ND, score_labels, head, temperature=1.0, entropy=False)[0]

    _attach(causal_model(model), read, "score_labels")


def attach_reading(scorer: Any) -> bool:
    """Let ``scorer(..., score_positions=)`` return scores ``[N]`` at those positions.

    Returns:
        False, and nothing is changed, when the scorer's head is not a plain ``score`` layer on
        the trunk's last hidden state.
    """
    whole = causal_model(scorer)
    if not hasattr(whole, "score") or not hasattr(whole, whole.base_model_prefix):
        return False

    def read(hidden_ND: Tensor) -> Tensor:
        scores_N: Tensor = whole.score(hidden_ND).squeeze(-1)
        return scores_N

    _attach(whole, read)
    return True


_WINDOWS = (
    "sliding_window",
    "attention_chunk_size",
    "window_size",
    "attention_window",
    "attention_window_size",
    "local_attention",
)
"""How configurations call the number of tokens that a layer looks back."""


def attention_reach(config: Any) -> int | None:
    """Return how many tokens, itself included, a token sees in the narrowest layer.

    None where all layers see everything before; 0 where some do not and no number is given.
    """
    text = config.get_text_config()
    named = (getattr(text, name, None) for name in _WINDOWS)
    narrow = [value for value in named if isinstance(value, int) and value > 0]
    kinds = set(getattr(text, "layer_types", None) or ())
    if kinds and kinds <= {"full_attention"}:
        return None
    return min(narrow, default=0 if kinds else None)


def shares_prompts(
    model: Any, score: Callable[[dict[str, Tensor]], Tensor], *, length: int | None = None
) -> bool:
    """Whether a pair gives the same numbers in one row as in two.

    It is tried on a few tokens: recurrent or position-biased attention would not. No few tokens
    show a window, whose mask the one row does not apply: there a pair must fit into it.

    Args:
        model: What is read; only for its mode and attention.
        score: From a batch to one number per response, chosen first.
        length: Most tokens of a prompt with one response; None where that is not known.
    """
    config = causal_model(model).config
    if config._attn_implementation != "sdpa":
        return False
    reach = attention_reach(config)
    if reach is not None and (length is None or length > reach):
        return False
    pad = config.get_text_config().pad_token_id or 0
    some = [token for token in range(1, 11) if token != pad]
    prompt = some[:4] * (8 if reach is None else 1)  # where there is a window, within it
    row = {"prompt_ids": prompt, "chosen_ids": some[4:7], "rejected_ids": some[7:9]}
    short = {"prompt_ids": some[2:3], "chosen_ids": some[1:2], "rejected_ids": some[3:4]}
    layouts: tuple[Layout, ...] = ("shared", "apart")
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            scores = [score(PairCollator(pad, layout)([row, short])) for layout in layouts]
    except (RuntimeError, ValueError, TypeError):
        return False  # an architecture that does not take such masks at all
    finally:
        model.train(training)
    return bool(torch.allclose(scores[0], scores[1], rtol=0, atol=_CLOSE))


def _attach(whole: Any, read: Callable[..., Tensor], *extra: str) -> None:
    original = whole.forward

    @functools.wraps(type(whole).forward)
    def forward(self: Any, *args: Any, score_positions: Tensor | None = None, **kwargs: Any) -> Any:
        if score_positions is None:
            return original(*args, **kwargs)
        wanted = {name: kwargs.pop(name) for name in extra}
        given = {name: value for name, value in kwargs.items() if value is not None}
        hidden = self.base_model(*args, **given | {"use_cache": False}).last_hidden_state
        return read(hidden.reshape(-1, hidden.shape[-1])[score_positions], **wanted)

    whole.forward = MethodType(forward, whole)
