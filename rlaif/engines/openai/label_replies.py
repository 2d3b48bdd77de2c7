"""Replies to labels: how likely each label is, out of the first token's log-probabilities. Pure.

Servers spell tokens in many ways: as text, with their vocabulary's mark for a space, as bytes. A
token counts for a label when it is that label, however spelled, without surrounding white space.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlaif.engines.openai.wire import choices_of, read_usage, text_of
from rlaif.engines.protocol import Reply, log_sum
from rlaif.engines.traffic.outcomes import BadReply
from rlaif.engines.turns import opens_reasoning

_MARKS = "Ġ▁Ċ"
"""How vocabularies write a space or a line break before a word."""

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def read_label(payload: Mapping[str, Any], labels: Sequence[str]) -> Reply:
    """Return the log-probability of each label among the reported next tokens.

    A label none of whose tokens was reported is None: it is less likely than those, but how likely
    is unknown.

    Raises:
        BadReply: No log-probabilities, or unreadable ones.
    """
    reply, candidates = _first_token(payload, len(labels))
    if reply.finish == "refusal":
        return reply
    found: dict[str, list[float]] = {label: [] for label in labels}
    for token, raw, value in candidates:
        label = _spelled(token, raw, found)
        if label is not None:
            found[label].append(value)
    return _with(reply, [log_sum(found[label]) for label in labels])


def read_label_ids(payload: Mapping[str, Any], ids: Sequence[Sequence[int]]) -> Reply | None:
    """Return the log-probability of each label from the exact values of its token ids.

    Returns:
        None when the server ignored ``logprob_token_ids`` and reported something else.

    Raises:
        BadReply: No log-probabilities, or unreadable ones.
    """
    reply, candidates = _first_token(payload, len(ids))
    if reply.finish == "refusal":
        return reply
    named = [frozenset(f"token_id:{value}" for value in values) for values in ids]
    reported = {token for token, _, _ in candidates}
    if not all(values <= reported for values in named):
        return None
    own = [[value for token, _, value in candidates if token in values] for values in named]
    return _with(reply, [log_sum(values) for values in own])


def _first_token(
    payload: Mapping[str, Any], labels: int
) -> tuple[Reply, list[tuple[str, Any, float]]]:
    """Return the reply with no label known, and the candidates for its first token."""
    choice = choices_of(payload)[0]
    text, finish, reasoning = text_of(choice)
    reply = Reply(text, finish, (None,) * labels, usage=read_usage(payload))
    if finish == "refusal":
        return reply, []
    logprobs = choice.get("logprobs")
    candidates = list(_candidates(logprobs if isinstance(logprobs, dict) else {}))
    if reasoning or text.lstrip().startswith("<think") or _thinks(choice, candidates):
        raise BadReply(
            "the judge thinks before it answers, so its first token is not a label: turn that off "
            "(options.extra_body), or set thinking: 1024 or words: true under the judge's pairwise",
            kind="thinking-judge",
            final=True,
        )
    if not candidates:
        raise BadReply(
            "the reply has no log-probabilities, which label judges need: set words: true under "
            "the judge's pairwise",
            kind="no-logprobs",
            final=True,
        )
    found = _distinct(candidates)
    if not found:
        raise BadReply("no log-probability of the reply is a number", final=True)
    return reply, found


def _thinks(choice: Mapping[str, Any], candidates: Sequence[tuple[Any, Any, Any]]) -> bool:
    """Return whether the content as it came, or the chosen token, begins to think."""
    first = [choice["message"].get("content"), *(token for token, _, _ in candidates[:1])]
    return any(isinstance(one, str) and opens_reasoning(one) for one in first)


def _distinct(candidates: Sequence[tuple[Any, Any, Any]]) -> list[tuple[str, Any, float]]:
    """Return the candidates that have a value, each once.

    The chosen token is reported apart and again among the candidates. Two tokens may look alike
    (vLLM shows both spellings of SentencePiece without the space) but differ in value.
    """
    found: dict[tuple[str, float], tuple[str, Any, float]] = {}
    for token, raw, value in candidates:
        if value is None:
            continue  # an alternative that cannot be, and no word against the others
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadReply("a log-probability is not a number", final=True)
        if isinstance(token, list):  # spelled in bytes alone
            token, raw = "", token
        if not isinstance(token, str):
            raise BadReply("a log-probability has no token", final=True)
        if math.isfinite(value):
            found.setdefault((token or str(raw), float(value)), (token, raw, float(value)))
    return list(found.values())


def _with(reply: Reply, values: Sequence[float | None]) -> Reply:
    return Reply(reply.text, reply.finish, tuple(values), usage=reply.usage)


def _candidates(logprobs: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Return what is reported for the first token: as token, its bytes, and its value."""
    content = logprobs.get("content")
    if isinstance(content, list) and content and isinstance(content[0], dict):
        top = content[0].get("top_logprobs")
        for one in [content[0], *(top if isinstance(top, list) else [])]:
            if not isinstance(one, dict):
                raise BadReply("a log-probability has no token", final=True)
            yield one.get("token"), one.get("bytes"), one.get("logprob")
        return
    # The form of text completions, which some servers use for chats as well.
    tokens, values, top = (
        logprobs.get(name) for name in ("tokens", "token_logprobs", "top_logprobs")
    )
    if isinstance(tokens, list) and tokens and isinstance(values, list) and values:
        yield tokens[0], None, values[0]
    if isinstance(top, list) and top and isinstance(top[0], dict):
        for token, value in top[0].items():
            yield token, None, value


def _spelled(token: str, raw: Any, labels: Mapping[str, Any]) -> str | None:
    """Return the label that a token spells; None when it spells none."""
    text = token.strip()
    if text in labels:
        return text
    if text and text.isascii() and text[0] != "<" and text[-1] != ">":
        return None  # nearly all others: words as they are
    bare = text.strip(_MARKS).removesuffix("</w>")
    if bare in labels:
        return bare
    if _BYTE.fullmatch(text):
        raw = [int(text[3:-1], 16)]
    if not isinstance(raw, list) or not all(type(one) is int and 0 <= one < 256 for one in raw):
        return None
    decoded = bytes(raw).decode("utf-8", "replace").strip()
    return decoded if decoded in labels else None
