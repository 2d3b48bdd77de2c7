"""Limits: how many calls a server gets at once, how many a minute, and when it counts as down.

Pure state: no clock, no sleep, no event loop. Every method takes the time (``now``, seconds on any
monotonic clock), so each rule is tested with exact numbers. `rlaif.engines.traffic.lanes` puts them
to work.

The concurrency rule is additive increase and multiplicative decrease with a slow start, after the
constants of inspect_ai's adaptive connections. Deviations: a round in which a 5xx, a timeout or a
broken connection was seen ends without growth (there: only the retried call is not counted), and
the maximum is 512 for self-hosted servers, whose batch is larger than a provider's quota.
"""

from dataclasses import dataclass

COOLDOWN_S = 15.0
"""After a cut, further 429s belong to the same episode for at least this long."""

CUT = 0.8
GROWTH = 0.05
BINDING = 0.8
"""The limit only grows when at least this share of it was in use."""

SHORTEST_ROUND = 4

HOPELESS_CALLS = 100
"""So many different calls given up, and none that succeeds, cannot all be bad rows."""

QUIET_S = 60.0
"""After this long without a 429, the next one begins a new streak."""


class AdaptiveLimit:
    """How many calls may be in flight at one server and model.

    Args:
        start: First limit, cut to [minimum, maximum].
        minimum: The limit never falls below it; ≥ 1.
        maximum: The limit never rises above it.
    """

    def __init__(self, *, start: int = 20, minimum: int = 10, maximum: int = 200) -> None:
        self.maximum = max(maximum, 1)
        self.minimum = max(min(minimum, self.maximum), 1)
        self.limit = min(max(start, self.minimum), self.maximum)
        self.in_flight = 0
        self.cooldown_until = float("-inf")
        self.slow_start = True
        self._clean = 0
        self._peak = 0
        self._troubled = False

    def tighten(self, *, minimum: int, maximum: int) -> None:
        """Take the stricter of the present bounds and these; in-flight calls are left alone."""
        self.maximum = max(min(self.maximum, maximum), 1)
        self.minimum = max(min(self.minimum, minimum, self.maximum), 1)
        self.limit = min(self.limit, self.maximum)

    def try_acquire(self, now: float) -> bool:
        """Take a slot if one is free."""
        if self.in_flight >= self.limit:
            return False
        self.in_flight += 1
        if now >= self.cooldown_until and self.in_flight > self._peak:
            self._peak = self.in_flight
        return True

    def release(self) -> None:
        """Give a slot back, whatever became of the call."""
        self.in_flight -= 1

    def succeeded(self, now: float, *, first_try: bool) -> None:
        """Count a success. Only first tries outside a cooldown are evidence for growth."""
        if not first_try or now < self.cooldown_until:
            return
        self._clean += 1
        if self._clean < max(self.limit, SHORTEST_ROUND):
            return
        if not self._troubled and self._peak >= BINDING * self.limit:
            step = self.limit if self.slow_start else max(1, round(GROWTH * self.limit))
            self.limit = min(self.limit + step, self.maximum)
        self._new_round()

    def throttled(self, now: float, retry_after: float = 0.0) -> bool:
        """Count a 429 or 503; return whether it opened a new episode and cut the limit."""
        cooldown = now + max(COOLDOWN_S, retry_after)
        opens = now >= self.cooldown_until
        if opens:
            self.limit = max(int(CUT * self.limit), self.minimum)
            self.slow_start = False
            self.cooldown_until = cooldown
        elif retry_after > 0:
            self.cooldown_until = max(self.cooldown_until, now + retry_after)
        self._new_round()
        return opens

    def troubled(self) -> None:
        """Count a 5xx, a timeout or a broken connection: this round ends without growth."""
        self._troubled = True

    def _new_round(self) -> None:
        self._clean = 0
        self._peak = 0
        self._troubled = False


class Bucket:
    """A hard limit per minute, of requests or of tokens.

    Any 60 seconds see at most ``per_minute``, apart from one cost larger than the bucket: it goes
    through when the bucket is full and is paid off afterwards. Below 60 a minute the bucket holds
    one and calls are evenly spaced; above, it holds about a second's worth, so that a late wake-up
    does not lose what it was owed.

    Our own because aiolimiter lets a whole minute's worth go at once on top of the steady flow,
    cannot be corrected with the real cost of a call, and reads another clock.
    """

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self.size = max(1.0, per_minute / 60.0)
        spread = per_minute - self.size if self.size > 1.0 else per_minute
        self.rate = spread / 60.0
        self._level = self.size
        self._at: float | None = None

    def wait(self, now: float, cost: float) -> float:
        """Return the seconds until ``cost`` may be taken; 0 when it may be taken now."""
        self._fill(now)
        lacking = min(cost, self.size) - self._level
        # A billionth of slack: sums of many small fills must not cost another wait.
        return max(0.0, lacking / self.rate) if lacking > 1e-9 else 0.0

    def take(self, now: float, cost: float) -> None:
        """Take ``cost``; call only when `wait` says 0. The level may fall below zero."""
        self._fill(now)
        self._level -= cost

    def settle(self, now: float, difference: float) -> None:
        """Give back (positive) or charge (negative) what an estimate was off by."""
        self._fill(now)
        self._level = min(self._level + difference, self.size)

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._level = min(self._level + (now - self._at) * self.rate, self.size)
        self._at = now if self._at is None else max(now, self._at)


@dataclass(slots=True)
class CircuitBreaker:
    """Whether a server is worth asking, from what became of the calls to it.

    One row that always fails must not pass for a dead server, so failures alone never open the
    circuit: they only raise the suspicion, which a probe (a question every healthy server can
    answer) confirms or lifts. While suspected, calls wait and only probes are sent. A server that
    answers probes and nothing else is hopeless once many different calls have failed for good.
    """

    max_outage_s: float = 30.0
    """Give up when a server that once answered has failed every probe for this long."""

    max_unanswered_s: float = 5.0
    """The same for a server that never answered at all: most likely a wrong address."""

    max_throttle_s: float = 600.0
    """Give up when nothing but 429 and 503 came back for this long."""

    suspicious_after: int = 10
    """Failures in a row, over all calls, that raise the suspicion."""

    suspected: bool = False
    reason: str = ""
    """The last failure, in words."""

    next_probe: float = 0.0
    _failures: int = 0
    _suspected_since: float = 0.0
    _probes: int = 0
    _ever_answered: bool = False
    _lost: int = 0
    _losing_since: float = 0.0
    _throttled_since: float | None = None
    _throttled_until: float = 0.0

    def begin_again(self) -> None:
        """Forget earlier failures: a new engine asks, perhaps after the server was fixed."""
        self.suspected = False
        self._failures = self._lost = self._probes = 0
        self._throttled_since = None

    def answered(self) -> None:
        """The server answered a call properly, or refused one for its content."""
        self._alive()
        self._lost = 0
        self._throttled_since = None

    def failed(self, now: float, reason: str, *, unreachable: bool = False) -> None:
        """Count a 5xx, a timeout or a broken connection; no connection at all is suspect at once.

        Args:
            now: The time.
            reason: In words, for the message should the server prove to be down.
            unreachable: Whether no connection could be made.
        """
        self.reason = reason
        self._failures += 1
        if not self.suspected and (unreachable or self._failures >= self.suspicious_after):
            self.suspected = True
            self.next_probe = self._suspected_since = now
            self._probes = 0

    def lost(self, now: float) -> None:
        """Count a call that was given up after all its tries."""
        if self._lost == 0:
            self._losing_since = now
        self._lost += 1

    def hopeless(self, now: float) -> bool:
        """Return whether so many calls were lost, for so long, that the next would be as well."""
        return self._lost >= HOPELESS_CALLS and now - self._losing_since >= self.max_outage_s

    def probed(self, now: float, *, alive: bool, reason: str = "") -> None:
        """Take the result of a probe: it lifts the suspicion, or asks for another one later."""
        if alive:
            self._alive()
            return
        self.reason = reason
        self._probes += 1
        self.next_probe = now + min(0.25 * 2.0 ** min(self._probes, 10), 5.0)

    def throttled(self, now: float, wait: float) -> None:
        """Count a 429 or 503 that is to be repeated after ``wait`` seconds."""
        self._alive()
        # A pause without calls ends a streak: an idle engine is not a throttled one.
        if self._throttled_since is None or now > self._throttled_until + QUIET_S:
            self._throttled_since = now
        self._throttled_until = max(self._throttled_until, now + wait)

    def outage(self, now: float) -> float:
        """Return for how many seconds the server has been suspected; 0 when it is not."""
        return now - self._suspected_since if self.suspected else 0.0

    def refusing(self, now: float) -> float:
        """Return for how many seconds nothing but 429 and 503 has come back; 0 when others do."""
        since = self._throttled_since
        if since is None or now > self._throttled_until + QUIET_S:
            return 0.0
        return now - since

    def given_up(self, now: float) -> bool:
        """Return whether probes have failed for so long that waiting makes no sense."""
        patience = self.max_outage_s if self._ever_answered else self._first_patience()
        return self.suspected and self._probes > 0 and self.outage(now) >= patience

    def exhausted(self, now: float) -> bool:
        """Return whether nothing but 429 and 503 came back for longer than is worth waiting."""
        since = self._throttled_since
        return since is not None and now - since >= self.max_throttle_s

    def _first_patience(self) -> float:
        return min(self.max_unanswered_s, self.max_outage_s)

    def _alive(self) -> None:
        self._ever_answered = True
        self._failures = 0
        self.suspected = False
