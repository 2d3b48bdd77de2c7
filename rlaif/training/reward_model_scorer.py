"""A reward model as a scorer: text in, scores out, in its own tokenizer's words.

The policy's tokens are never shown to the reward model. Prompt and response are rendered with the
*reward model's* chat template and tokenised with *its* tokenizer, padded on the right, and the
score is read at the last real token, found by length, whatever the pad token is.

Shapes: B texts, L columns.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlaif.records import Message
from rlaif.training.data.chat import ToolsLeftOut, render_chat
from rlaif.training.forward.sequences import split_by_tokens
from rlaif.training.models import device_kind, identify_model, load_scorer
from rlaif.training.scorers import Scorer, file_content, identified

_NO_TOOLS = "the reward model's chat template does not support the conversation's tools"
_TOO_LONG = "the conversation does not fit the reward model's context"

_MOST_TOKENS = 8192
"""Padded tokens of one forward pass; only memory depends on it."""


def reward_model_scorer(
    model: str,
    *,
    revision: str | None = None,
    chat_template: str | None = None,
    most_tokens: int = _MOST_TOKENS,
) -> Scorer:
    """Load a reward model and return it as a scorer.

    A conversation longer than the model's context is unscored, not cut: the end that decides the
    score would be missing, or the question.

    Args:
        model: A folder or hub id of a sequence classifier with one label.
        revision: Branch, tag or commit on the hub.
        chat_template: For tokenizers without one; see `rlaif.training.data.chat.set_chat_template`.
        most_tokens: Padded tokens of one forward pass.

    Raises:
        InputError: Not a reward model, or no chat template.
    """
    loaded, tokenizer = load_scorer(
        model, revision=revision, chat_template=chat_template, frozen=True, trained=True
    )
    loaded.to(device_kind())  # type: ignore[arg-type]
    limit = getattr(loaded.config.get_text_config(), "max_position_embeddings", None)
    one_at_a_time = threading.Lock()  # a hanging call that was given up may still be running

    def score(
        prompts: list[list[Message]], responses: list[str], **columns: list[Any]
    ) -> list[float | None]:
        texts = [
            _render(tokenizer, prompt, response)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        ids = [
            [] if text is None else list(tokenizer(text, add_special_tokens=False).input_ids)
            for text in texts
        ]
        fitting = [i for i, tokens in enumerate(ids) if tokens and len(tokens) <= (limit or 2**31)]
        with one_at_a_time:
            values = score_tokens(
                loaded,
                [ids[i] for i in fitting],
                pad_id=int(tokenizer.pad_token_id or 0),
                most_tokens=most_tokens,
            )
        scores: list[float | None] = [None] * len(texts)
        for i, value in zip(fitting, values, strict=True):
            scores[i] = value
        for i, reasons in enumerate(columns.get("why", ())):
            if scores[i] is None:
                reasons.append(_NO_TOOLS if texts[i] is None else _TOO_LONG)
        return scores

    score.__name__ = "reward_model"
    template = {} if chat_template is None else {"chat_template": file_content(chat_template)}
    return identified(score, {"reward_model": identify_model(model, revision=revision), **template})


@torch.no_grad()
def score_tokens(
    model: Any, ids: Sequence[Sequence[int]], *, pad_id: int, most_tokens: int = _MOST_TOKENS
) -> list[float]:
    """Return the reward model's score of each token sequence, in order.

    Args:
        model: A sequence classifier with one label, in eval mode.
        ids: At least one token each.
        pad_id: Any id of the vocabulary.
        most_tokens: Padded tokens of one forward pass.
    """
    read = _reader(model)
    scores = [0.0] * len(ids)
    for group in split_by_tokens([len(tokens) for tokens in ids], most_tokens):
        lengths = [len(ids[i]) for i in group]
        ids_BL = torch.full((len(group), max(lengths)), pad_id, dtype=torch.long)
        for row, i in enumerate(group):
            ids_BL[row, : len(ids[i])] = torch.tensor(list(ids[i]))
        lengths_B = torch.tensor(lengths)
        values = read(ids_BL.to(model.device), lengths_B.to(model.device)).float().tolist()
        for i, value in zip(group, values, strict=True):
            scores[i] = value
    return scores


def _reader(model: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Return how scores are read: at the last token, or however another architecture pools."""
    head = getattr(model, "score", None)

    def at_last_token(ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        hidden_BLD = model.base_model(input_ids=ids_BL, use_cache=False).last_hidden_state
        rows_B = torch.arange(len(ids_BL), device=ids_BL.device)
        assert head is not None
        scores: Tensor = head(hidden_BLD[rows_B, lengths_B - 1]).squeeze(1)
        return scores

    def as_the_model_does(ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        mask_BL = torch.arange(ids_BL.shape[1], device=ids_BL.device) < lengths_B[:, None]
        scores: Tensor = model(input_ids=ids_BL, attention_mask=mask_BL.long()).logits[:, 0]
        return scores

    return at_last_token if isinstance(head, nn.Module) else as_the_model_does


def _render(tokenizer: Any, prompt: list[Message], response: str) -> str | None:
    """Return the conversation as text; None where the template does not support its tools."""
    messages: list[Message] = [*prompt, {"role": "assistant", "content": response}]
    try:
        return render_chat(tokenizer, messages, opened=False)
    except ToolsLeftOut:
        return None
