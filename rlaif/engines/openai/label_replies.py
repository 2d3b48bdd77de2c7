"""Replies to labels: how likely each label is, out of the first token's log-probabilities. Pure.

Servers spell tokens in many ways: as text, with their vocabulary's mark for a space, as bytes. A
token counts for a label when it is that label, however spelled, without surrounding white space.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlaif.engines.openai.wire import choices_of, read_usage, text_of
from rlaif.engines.protocol import Reply, log_sum
from rlaif.engines.traffic.outcomes import BadReply
from rlaif.engines.turns import opens_reasoning

_MARKS = "Ġ▁Ċ"
"""How vocabularies write a space or a line break before a word."""

_Candidate = tuple[str, Any, float]
"""A token as text, its bytes where the server gives them, and its log-probability."""

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
    found: dict[str, list[_Candidate]] = {label: [] for label in labels}
    for one in candidates:
        text = one[0].strip()
        if text in found:
            found[text].append(one)
        elif not (text.isascii() and text.isalnum()):  # all others are words as they are
            label = _spelled(text, one[1], found)
            if label is not None:
                found[label].append(one)
    return _with(reply, [_sum(some) for some in found.values()])


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
    return _with(reply, [_sum([one for one in candidates if one[0] in some]) for some in named])


def _sum(candidates: Sequence[_Candidate]) -> float | None:
    """Return the logarithm of the summed probabilities of different tokens.

    The chosen token is reported apart and again among the candidates. Two tokens may look alike
    (vLLM shows both spellings of SentencePiece without the space) but differ in value.
    """
    if len(candidates) == 1:
        return min(0.0, candidates[0][2])
    different = {(token or str(raw), value): value for token, raw, value in candidates}
    return log_sum(list(different.values()))


def _first_token(payload: Mapping[str, Any], labels: int) -> tuple[Reply, list[_Candidate]]:
    """Return the reply with no label known, and the candidates for its first token."""
    choice = choices_of(payload)[0]
    text, finish, reasoning = text_of(choice)
    reply = Reply(text, finish, (None,) * labels, usage=read_usage(payload))
    if finish == "refusal":
        return reply, []
    logprobs = choice.get("logprobs")
    candidates = _candidates(logprobs) if isinstance(logprobs, dict) else []
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
    found = [one for one in map(_readable, candidates) if one is not None]
    if not found:
        raise BadReply("no log-probability of the reply is a number", final=True)
    return reply, found


def _thinks(choice: Mapping[str, Any], candidates: Sequence[tuple[Any, Any, Any]]) -> bool:
    """Return whether the content as it came, or the chosen token, begins to think."""
    for first in (choice["message"].get("content"), candidates[0][0] if candidates else None):
        if isinstance(first, str) and opens_reasoning(first):
            return True
    return False


def _readable(candidate: tuple[Any, Any, Any]) -> _Candidate | None:
    """Return a candidate whose value is a number; None for an alternative that cannot be."""
    token, raw, value = candidate
    if type(value) is float and type(token) is str:  # nearly all
        return candidate if math.isfinite(value) else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadReply("a log-probability is not a number", final=True)
    if isinstance(token, list):  # spelled in bytes alone
        token, raw = "", token
    if not isinstance(token, str):
        raise BadReply("a log-probability has no token", final=True)
    return (token, raw, float(value)) if math.isfinite(value) else None


def _with(reply: Reply, values: Sequence[float | None]) -> Reply:
    return Reply(reply.text, reply.finish, tuple(values), usage=reply.usage)


def _candidates(logprobs: Mapping[str, Any]) -> list[tuple[Any, Any, Any]]:
    """Return what is reported for the first token: as token, its bytes, and its value."""
    content = logprobs.get("content")
    if isinstance(content, list) and content and isinstance(content[0], dict):
        top = content[0].get("top_logprobs")
        reported = [content[0], *top] if isinstance(top, list) else [content[0]]
        try:
            return [(one.get("token"), one.get("bytes"), one.get("logprob")) for one in reported]
        except AttributeError:
            raise BadReply("a log-probability has no token", final=True) from None
    # The form of text completions, which some servers use for chats as well.
    tokens, values, top = (
        logprobs.get(name) for name in ("tokens", "token_logprobs", "top_logprobs")
    )
    candidates: list[tuple[Any, Any, Any]] = []
    if isinstance(tokens, list) and tokens and isinstance(values, list) and values:
        candidates.append((tokens[0], None, values[0]))
    if isinstance(top, list) and top and isinstance(top[0], dict):
        candidates += [(token, None, value) for token, value in top[0].items()]
    return candidates


def _spelled(text: str, raw: Any, labels: Mapping[str, Any]) -> str | None:
    """Return the label that a token spells in another way; None when it spells none."""
    bare = text.strip(_MARKS).removesuffix("</w>")
    if bare in labels:
        return bare
    if _BYTE.fullmatch(text):
        raw = [int(text[3:-1], 16)]
    if not isinstance(raw, list) or not all(type(one) is int and 0 <= one < 256 for one in raw):
        return None
    decoded = bytes(raw).decode("utf-8", "replace").strip()
    return decoded if decoded in labels else None
