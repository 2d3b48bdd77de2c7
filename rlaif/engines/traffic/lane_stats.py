"""What the lanes to a server are doing now and have done so far, as figures and in words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

WORTH_SAYING_S = 1.0
"""A shorter outage is not reported: the next probe may clear it."""


@dataclass(frozen=True, slots=True)
class LaneStats:
    """One lane at one moment; counts are since the lane was opened."""

    base_url: str
    model: str
    limit: int
    """Calls allowed in flight now."""

    in_flight: int
    waiting: int
    """Calls that wait for a slot, here or at whichever other server has one first."""

    requests: int
    """Requests sent, retries included."""

    succeeded: int
    throttled: int
    """Answers 429 or 503."""

    retries: int
    """Requests that were sent again, for whatever reason."""

    down: bool
    """Whether the server is suspected to be down: calls wait, and only probes are sent."""

    down_s: float
    """For how many seconds; 0 when it is not."""

    slowed: bool
    """Whether a 429 or 503 has just cut the limit, or asked for silence."""

    refusing_s: float
    """For how many seconds nothing but 429 and 503 came back; 0 when it takes calls."""

    slot_seconds: float
    """Slots in use, summed over time."""

    limit_seconds: float
    """Slots allowed, summed over the time in which any call was in flight or waiting."""

    @property
    def utilisation(self) -> float | None:
        """The used share of the allowed slots while there was work; None before any work."""
        return self.slot_seconds / self.limit_seconds if self.limit_seconds > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dictionary."""
        return asdict(self) | {"utilisation": self.utilisation}


def tell_trouble(lanes: Sequence[LaneStats]) -> str:
    """Say what holds calls up, such as ``gpu1:8000 down for 12 s``; empty when nothing does."""
    down = [one for one in lanes if one.down_s >= WORTH_SAYING_S]
    slowed = [one for one in lanes if not one.down and (one.slowed or one.refusing_s > 0.0)]
    parts = []
    if down:
        parts.append(f"{_who(down, lanes)} down for {max(one.down_s for one in down):.0f} s")
    if slowed:
        verb = "throttles" if len(slowed) == 1 else "throttle"
        refusing = min(one.refusing_s for one in slowed)
        since = f" for {refusing:.0f} s" if refusing >= WORTH_SAYING_S else ""
        calls = sum(one.limit for one in slowed)
        parts.append(f"{_who(slowed, lanes)} {verb}{since}, {calls} calls at once")
    return ", ".join(parts)


def _who(some: Sequence[LaneStats], lanes: Sequence[LaneStats]) -> str:
    if len(some) > 1:
        return f"{len(some)} of {len(lanes)} servers"
    return urlsplit(some[0].base_url).netloc
