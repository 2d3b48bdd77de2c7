"""Outcomes: what an answer means for the call that was sent. Pure.

A 429 or 503 says nothing about the call, so it is `Throttled`. A 5xx, or a reply without the
promised shape, is `Failed`: it may go right the next time. Any other status is `Rejected`. Servers
also put errors into a 200; those mean what the same error means with its own status.
"""

import email.utils
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from rlaif.engines.traffic.explain import Explanation, explain, explain_value, load_json
from rlaif.engines.traffic.transport import Answer

T = TypeVar("T")

THROTTLED = frozenset({429, 503, 529})
TRANSIENT = frozenset({408, 409, 425})
"""Besides every 5xx that is not in THROTTLED."""

OUT_OF_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance")
TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size)|maximum context|max_model_len|maximum model length"
    r"|(input|prompt|inputs)\W*( token count| tokens)?.{0,60}(exceeds?|longer than|too large)"
    r"|inputs. tokens . .max_new_tokens. must be"
    r"|too many (input )?tokens|(prompt|input|message)s? (is|are) too long|maximum prompt length"
    r"|longer than the maximum|reduce the length of",
    re.IGNORECASE,
)
"""A prompt beyond what the model takes, in the words and codes of about a dozen servers."""

_RATE_LIMIT = re.compile(r"rate.?limit|too.?many.?requests|overloaded|resource.?exhausted")
LARGEST_COUNT = 2**48
"""A count of tokens above this is not believed."""


class BadReply(Exception):  # noqa: N818 - an outcome of reading, handled by the retry loop
    """A reply that does not have the promised shape. The message says what is wrong with it.

    Args:
        words: What is wrong.
        kind: What the failure is called.
        final: Whether the same call would come to the same: then it is not sent again.
        error: What the server says instead, where it says that it failed.
    """

    def __init__(
        self, words: str, *, kind: str = "bad-reply", final: bool = False, error: Any = None
    ) -> None:
        super().__init__(words)
        self.kind = kind
        self.final = final
        self.error = error


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
    billed: Any = field(default=None, compare=False)
    """As in `Failed`."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong that may go right the next time."""

    kind: str
    words: str
    failing: bool = False
    """Whether it speaks against the server and not only against the reply."""

    unreachable: bool = False
    final: bool = False
    """Whether another attempt would come to the same."""

    billed: Any = None
    """The payload of a success that could not be used, and was paid for all the same."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The server will not do this; asking again is useless."""

    status: int
    words: str
    code: str
    fields: tuple[str, ...] = ()
    """Fields of the request that the server names as the reason."""

    billed: Any = field(default=None, compare=False)
    """As in `Failed`."""


Outcome = Success[T] | Throttled | Failed | Rejected


def read_answer(answer: Answer, read: Callable[[dict[str, Any]], T], now: float) -> Outcome[T]:
    """Sort an answer.

    Args:
        answer: What came back.
        read: Makes the value from the JSON object of a success, or raises `BadReply`.
        now: Unix time, for a Retry-After that is a date.
    """
    if not 200 <= answer.status < 300:
        return _failure(answer.status, explain(answer.body), answer.headers, now)
    try:
        payload = load_json(answer.body)
    except ValueError:
        return Failed("bad-reply", "the reply is not valid JSON")
    if not isinstance(payload, dict):
        payload = {"error": payload} if _is_error_list(payload) else None
        if payload is None:
            return Failed("bad-reply", "the reply is not a JSON object")
    if payload.get("error") and not payload.get("choices"):
        return _error_inside(payload["error"], payload, answer.headers, now)
    try:
        return Success(read(payload), count_of(_total(payload)))
    except BadReply as bad:
        if bad.error is not None:
            return _error_inside(bad.error, payload, answer.headers, now)
        return Failed(bad.kind, str(bad), final=bad.final, billed=payload)


def _is_error_list(payload: Any) -> bool:
    return isinstance(payload, list) and any(
        isinstance(one, dict) and one.get("error") for one in payload
    )


def _error_inside(
    error: Any, payload: dict[str, Any], headers: Mapping[str, str], now: float
) -> Outcome[Any]:
    """Sort an error that came with status 200: by the status it names, else it may pass."""
    said = explain_value({"error": error})
    named = [int(code) for code in said.code.split() if code.isascii() and code.isdigit()]
    status = next((code for code in named if 400 <= code < 600), None)
    if status is None and _RATE_LIMIT.search(said.code):
        status = 429
    if status is not None:
        outcome = _failure(status, said, headers, now)
        if not isinstance(outcome, Failed):
            return replace(outcome, billed=payload)
    return Failed("error-in-reply", f"an error instead of a reply: {said.words}", billed=payload)


def _failure(
    status: int, said: Explanation, headers: Mapping[str, str], now: float
) -> Throttled | Failed | Rejected:
    if status in THROTTLED and not any(name in said.code for name in OUT_OF_MONEY):
        return Throttled(read_retry_after(headers, now), f"HTTP {status}: {said.words}")
    too_long = status >= 500 and TOO_LONG.search(f"{said.code} {said.words}")
    if status in TRANSIENT or (status >= 500 and status not in THROTTLED and not too_long):
        return Failed(f"http-{status}", f"HTTP {status}: {said.words}", failing=status >= 500)
    return Rejected(status, said.words, said.code, said.fields)


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
    except (ValueError, OverflowError):
        return None


def count_of(value: Any) -> int:
    """Return a count of tokens as a server gives it; 0 for what can be none."""
    known = isinstance(value, int) and not isinstance(value, bool)
    return value if known and 0 < value <= LARGEST_COUNT else 0


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0.0 <= number < float("inf") else None


def _total(payload: Mapping[str, Any]) -> Any:
    usage = payload.get("usage")
    return usage.get("total_tokens") if isinstance(usage, dict) else None
