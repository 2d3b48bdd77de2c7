"""Outcomes: what an answer means for the call that was sent. Pure.

A 429 or 503 says nothing about the call, so it is `Throttled`. A 5xx, or a reply without the
promised shape, is `Failed`: it may go right the next time. Any other status is `Rejected`.
"""

import email.utils
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from rlaif.engines.traffic.transport import Answer

T = TypeVar("T")

THROTTLED = frozenset({429, 503, 529})
TRANSIENT = frozenset({408, 409, 425})
"""Besides every 5xx that is not in THROTTLED."""

OUT_OF_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance")


class BadReply(Exception):  # noqa: N818 - an outcome of reading, handled by the retry loop
    """A reply that does not have the promised shape. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Success(Generic[T]):
    """A reply that could be read."""

    value: T
    tokens: float
    """What it cost in prompt and completion tokens; 0 when the server did not say."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """The server is busy: send the call again, at no cost to it."""

    retry_after: float | None
    """Seconds, when the server named a time."""

    words: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong that may go right the next time."""

    kind: str
    words: str
    failing: bool = False
    """Whether it speaks against the server and not only against the reply."""

    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server will not do this; asking again is useless."""

    status: int
    words: str
    code: str


Outcome = Success[T] | Throttled | Failed | Rejected


def read_answer(answer: Answer, read: Callable[[dict[str, Any]], T], now: float) -> Outcome[T]:
    """Sort an answer.

    Args:
        answer: What came back.
        read: Makes the value from the JSON object of a success, or raises `BadReply`.
        now: Unix time, for a Retry-After that is a date.
    """
    status = answer.status
    if 200 <= status < 300:
        try:
            payload = orjson.loads(answer.body)
            if not isinstance(payload, dict):
                raise BadReply("the reply is not a JSON object")
            return Success(read(payload), _tokens(payload))
        except orjson.JSONDecodeError:
            return Failed("bad-reply", "the reply is not valid JSON")
        except BadReply as bad:
            return Failed("bad-reply", str(bad))
    words, code = explain(answer)
    if status in THROTTLED and not any(name in code for name in OUT_OF_MONEY):
        return Throttled(read_retry_after(answer.headers, now), f"HTTP {status}: {words}")
    if status in TRANSIENT or (status >= 500 and status not in THROTTLED):
        return Failed(f"http-{status}", f"HTTP {status}: {words}", failing=status >= 500)
    return Rejected(status, words, code)


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds a server asks to wait, from retry-after-ms or Retry-After; else None.

    Retry-After is a number of seconds or an HTTP date, which ``now`` (Unix time) is subtracted
    from.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000.0
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None


def explain(answer: Answer) -> tuple[str, str]:
    """Return the server's words, at most 300 characters, and its error code in lower case."""
    try:
        payload = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        payload = answer.body.decode("utf-8", "replace")
    code = ""
    if isinstance(payload, dict):
        error = payload.get("error", payload)
        if isinstance(error, dict):
            code = f"{error.get('code') or ''} {error.get('type') or ''}".strip().lower()
            error = error.get("message") or error.get("detail") or error
        payload = error
    text = payload if isinstance(payload, str) else str(payload)
    text = " ".join(text.split())
    return (text if len(text) <= 300 else text[:299] + "…") or "no explanation", code


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0.0 <= number < float("inf") else None


def _tokens(payload: Mapping[str, Any]) -> float:
    usage = payload.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return float(total) if isinstance(total, int | float) and total > 0 else 0.0
