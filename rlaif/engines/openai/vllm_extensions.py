"""What only vLLM's server offers: token ids of labels, and log-probabilities of given tokens.

Pure bodies and readers; `rlaif.engines.openai.engine` sends them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlaif.engines.openai.wire import conversation, prefilled, read_usage
from rlaif.engines.protocol import Label, Reply, Score
from rlaif.engines.traffic.outcomes import BadReply

BEFORE = "\n"
"""Written before a label to see the token it has inside a text: some tokenizers (SentencePiece)
put a space before the first word of any text, so that the plain spelling never shows up alone."""


def spellings(label: str) -> tuple[str, ...]:
    """Return the texts to tokenize for one label; `ids_of_label` reads the results."""
    return (BEFORE, label, f" {label}", BEFORE + label, f"{BEFORE} {label}")


def ids_of_label(tokens: Mapping[str, Sequence[int]], label: str) -> tuple[int, ...]:
    """Return the ids of every single token that spells the label, with or without a space.

    Args:
        tokens: Text to token ids, for all `spellings`.
        label: The label.
    """
    found = []
    before = list(tokens[BEFORE])
    for text in spellings(label)[1:]:
        ids = list(tokens[text])
        if text.startswith(BEFORE):
            ids = ids[len(before) :] if ids[: len(before)] == before else []
        if len(ids) == 1:
            found.append(ids[0])
    return tuple(sorted(set(found)))


def tokenize_body(text: str) -> dict[str, Any]:
    """Return the body that asks /tokenize for the ids of a text, without special tokens."""
    return {"prompt": text, "add_special_tokens": False}


def prompt_body(request: Score, extra_body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that asks /tokenize for the ids of a conversation, ready for a reply.

    Template settings of ``extra_body`` go with it: the ids must be those that chat would see.
    """
    names = ("chat_template", "chat_template_kwargs")
    template = {name: extra_body[name] for name in names if name in extra_body}
    asked = conversation(request.messages)
    asked.pop("tool_choice", None)
    return {**asked, "add_generation_prompt": True, **template}


def read_tokens(payload: Mapping[str, Any]) -> list[int]:
    """Return the ids that /tokenize gave.

    Raises:
        BadReply: There are none.
    """
    tokens = payload.get("tokens")
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise BadReply("/tokenize returned no token ids")
    return tokens


def exact_label_body(request: Label, ids: Sequence[Sequence[int]], field: str) -> dict[str, Any]:
    """Return the body that asks for the log-probabilities of exactly these first tokens."""
    body: dict[str, Any] = {
        **conversation(request.messages),
        "temperature": 0.0,
        "top_p": 1.0,
        field: 1,
        "logprobs": True,
        "logprob_token_ids": sorted({value for values in ids for value in values}),
        "return_tokens_as_token_ids": True,
    }
    return body | prefilled(request.messages, request.stub) if request.stub else body


def score_body(prompt: Sequence[int], continuation: Sequence[int]) -> dict[str, Any]:
    """Return the completion body that reports the log-probability of every prompt token."""
    return {
        "prompt": [*prompt, *continuation],
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 0,
    }


def read_score(payload: Mapping[str, Any], continuation: Sequence[int]) -> Reply:
    """Return the summed log-probability of the last ``len(continuation)`` prompt tokens.

    Raises:
        BadReply: A token has no log-probability.
    """
    choices = payload.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    positions = choice.get("prompt_logprobs") if isinstance(choice, dict) else None
    if not isinstance(positions, list) or len(positions) < len(continuation):
        raise BadReply("the reply has no prompt_logprobs")
    total = 0.0
    scored = positions[len(positions) - len(continuation) :]
    for token, position in zip(continuation, scored, strict=True):
        entry = position.get(str(token)) if isinstance(position, dict) else None
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise BadReply("a token of the continuation has no log-probability")
        total += value
    usage = read_usage(payload)
    return Reply(logprob=total, scored_tokens=len(continuation), usage=usage)
