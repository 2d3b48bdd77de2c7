"""Lanes: the way to one model at one server, shared by every engine that asks it.

A student and a judge at the same server and model meet in one lane, because the server has one
limit for both. Lanes belong to the running event loop; they vanish with the last engine that holds
them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakValueDictionary

from rlaif.engines.traffic.lane_stats import LaneStats
from rlaif.engines.traffic.limits import AdaptiveLimit, Bucket, CircuitBreaker

log = logging.getLogger(__name__)

TRIAL_S = 60.0
"""How often one call tries whether a server that asked for a longer silence still means it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a user allows at one server. Where two engines share a lane, the stricter value wins."""

    start: int = 20
    minimum: int = 10
    maximum: int = 200
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_outage_s: float = 30.0
    max_throttle_s: float = 600.0


class Lane:
    """Slots, rates and health of one model at one server. Used from one event loop."""

    def __init__(self, base_url: str, model: str, bounds: Bounds) -> None:
        self.base_url = base_url
        self.model = model
        self.limit = AdaptiveLimit(
            start=bounds.start, minimum=bounds.minimum, maximum=bounds.maximum
        )
        self.circuit = CircuitBreaker(
            max_outage_s=bounds.max_outage_s, max_throttle_s=bounds.max_throttle_s
        )
        self.probing = asyncio.Lock()
        self.requests = self.succeeded = self.throttles = self.retries = 0
        self._requests = _bucket(bounds.requests_per_minute)
        self._tokens = _bucket(bounds.tokens_per_minute)
        self._hold_until = self._trial_at = float("-inf")
        self._trying = False
        self._waiters: deque[tuple[asyncio.Future[Lane], float]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._slot_seconds = self._limit_seconds = 0.0
        self._counted_at = self.now()

    def now(self) -> float:
        """Return the event loop's clock, in seconds."""
        return self._loop.time()

    @property
    def load(self) -> float:
        """Calls in flight per slot: what routing compares."""
        return self.limit.in_flight / self.limit.limit

    def tighten(self, bounds: Bounds) -> None:
        """Take over what is stricter in ``bounds``."""
        self._count()
        self.limit.tighten(minimum=bounds.minimum, maximum=bounds.maximum)
        self._requests = _stricter(self._requests, bounds.requests_per_minute)
        self._tokens = _stricter(self._tokens, bounds.tokens_per_minute)
        circuit = self.circuit
        circuit.max_outage_s = min(circuit.max_outage_s, bounds.max_outage_s)
        circuit.max_throttle_s = min(circuit.max_throttle_s, bounds.max_throttle_s)

    def try_acquire(self, tokens: float) -> bool:
        """Take a slot if no call waits for one and slots, rates and holds allow it now."""
        self._drop_served()
        now = self.now()
        return not self._waiters and self._delay(now, tokens) == 0.0 and self._take(now, tokens)

    def enqueue(self, waiter: "asyncio.Future[Lane]", tokens: float) -> None:
        """Let a call wait here, first come first served; it may wait at other lanes too."""
        self._count()
        self._drop_served()
        self._waiters.append((waiter, tokens))
        self._wake()

    def release(self, tokens_off: float = 0.0) -> None:
        """Give the slot back; ``tokens_off`` is expected minus real tokens."""
        self._count()
        self.limit.release()
        if tokens_off and self._tokens:
            self._tokens.settle(self.now(), tokens_off)
        self._wake()

    def throttle(self, wait: float, *, hold: bool) -> None:
        """Note a 429 or 503. ``hold`` stops every call of the lane for that long.

        A server that names a time means its whole quota, so sending it other calls meanwhile
        would only draw more refusals. One call a minute is let through all the same, and the hold
        ends when it succeeds: that keeps one odd answer from stopping a run.
        """
        self._count()
        now = self.now()
        self.throttles += 1
        self.circuit.throttled(now, wait)
        if self.limit.throttled(now, wait if hold else 0.0):
            log.info("%s throttles: at most %d calls at once", self.base_url, self.limit.limit)
        if hold:
            self._hold_until = max(self._hold_until, now + wait)
            self._trial_at = max(self._trial_at, now + min(wait, TRIAL_S))
            self._trying = False

    def succeed(self, *, first_try: bool) -> None:
        """Note a success."""
        self._count()
        self.succeeded += 1
        self.circuit.answered()
        self.limit.succeeded(self.now(), first_try=first_try)
        if self._trying:
            self._hold_until, self._trying = self.now(), False

    def stats(self) -> LaneStats:
        """Return what the lane is doing now and has done so far."""
        self._count()
        self._drop_served()
        now = self.now()
        return LaneStats(
            base_url=self.base_url,
            model=self.model,
            limit=self.limit.limit,
            in_flight=self.limit.in_flight,
            waiting=len(self._waiters),
            requests=self.requests,
            succeeded=self.succeeded,
            throttled=self.throttles,
            retries=self.retries,
            down=self.circuit.suspected,
            down_s=self.circuit.outage(now),
            slowed=now < self.limit.cooldown_until,
            refusing_s=self.circuit.refusing(now),
            slot_seconds=self._slot_seconds,
            limit_seconds=self._limit_seconds,
        )

    def _delay(self, now: float, tokens: float) -> float:
        """Return the seconds until hold and rates allow a call."""
        delay = max(0.0, min(self._hold_until, self._trial_at) - now)
        if self._requests:
            delay = max(delay, self._requests.wait(now, 1.0))
        if self._tokens:
            delay = max(delay, self._tokens.wait(now, tokens))
        return delay

    def _take(self, now: float, tokens: float) -> bool:
        if self.limit.in_flight < self.limit.limit:
            self._count()
        if not self.limit.try_acquire(now):
            return False
        if now < self._hold_until:
            self._trying, self._trial_at = True, now + TRIAL_S
        if self._requests:
            self._requests.take(now, 1.0)
        if self._tokens:
            self._tokens.take(now, tokens)
        return True

    def _wake(self) -> None:
        """Let waiting calls go, in order, as far as slots and rates allow."""
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        while True:
            self._drop_served()
            if not self._waiters:
                return
            waiter, tokens = self._waiters[0]
            now = self.now()
            delay = self._delay(now, tokens)
            if delay > 0.0:
                self._alarm = self._loop.call_later(delay, self._wake)
                return
            if not self._take(now, tokens):
                return
            self._waiters.popleft()
            waiter.set_result(self)

    def _drop_served(self) -> None:
        """Forget waiters that were served elsewhere or cancelled; the oldest stand in front."""
        while self._waiters and self._waiters[0][0].done():
            self._waiters.popleft()

    def _count(self) -> None:
        """Add the time since the last change to the two sums behind utilisation."""
        now = self.now()
        past, self._counted_at = now - self._counted_at, now
        busy = self.limit.in_flight
        if busy or self._waiters:
            self._slot_seconds += past * busy
            self._limit_seconds += past * self.limit.limit


_lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[tuple[str, str], Lane]] = (
    WeakKeyDictionary()
)


def lane_to(base_url: str, model: str, bounds: Bounds) -> Lane:
    """Return the lane of the running event loop to this model; call with a loop running."""
    here = _lanes.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    lane = here.get((base_url, model))
    if lane is None:
        lane = here[(base_url, model)] = Lane(base_url, model, bounds)
    else:
        lane.tighten(bounds)
        lane.circuit.begin_again()
    return lane


async def enter(lanes: Sequence[Lane], tokens: float) -> Lane:
    """Wait for a slot in any of the lanes, the least loaded first; return the one that gave it.

    Args:
        lanes: One per server; at least one.
        tokens: Expected cost of the call, for the rate limits.
    """
    for lane in lanes if len(lanes) == 1 else sorted(lanes, key=_load):
        if lane.try_acquire(tokens):
            return lane
    waiter: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()
    for lane in lanes:
        lane.enqueue(waiter, tokens)
    try:
        return await waiter
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled():
            waiter.result().release(tokens)
        raise


def _load(lane: Lane) -> float:
    return lane.load


def _bucket(per_minute: float | None) -> Bucket | None:
    return Bucket(per_minute) if per_minute else None


def _stricter(bucket: Bucket | None, per_minute: float | None) -> Bucket | None:
    if per_minute is None or (bucket and bucket.per_minute <= per_minute):
        return bucket
    return Bucket(per_minute)
