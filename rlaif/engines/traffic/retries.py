"""Retries: the one place where a call is sent again, and where it is decided that it will not be.

`rlaif.engines.traffic.outcomes` sorts what came back; `Sender.send` acts on it. A 429 or 503 says
nothing about the call, so it is delayed and spends no attempt; a connection that cannot be made
waits for the server; a 5xx, a timeout, a broken connection or a reply that cannot be read spends an
attempt; anything else ends the call at once.

tenacity and stamina count every repetition as an attempt and decide per call. Here the delays are
free, and the decision to continue belongs to the server's circuit breaker, which all calls share,
so the loop is written out.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from rlaif.engines.traffic.explain import explain
from rlaif.engines.traffic.lanes import Lane, enter
from rlaif.engines.traffic.outcomes import (
    Failed,
    Outcome,
    Rejected,
    Success,
    Throttled,
    read_answer,
)
from rlaif.engines.traffic.transport import Answer, NoAnswer, Transport
from rlaif.errors import CallFailed, EngineError, EngineUnavailable

T = TypeVar("T")

Carry = Callable[[str], Awaitable[Answer]]
"""Sends one request to the URL it is given, and returns the answer or raises `NoAnswer`."""

BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0


class Sender:
    """Sends calls through lanes, again where that can help.

    Args:
        transport: Carries the bytes.
        lanes: One per base_url, all with the same model.
        max_attempts: How often one call is tried; delays by 429, 503 or an outage do not count.
        probe_timeout_s: How long a server may take to answer a probe.
        redact: Takes secrets out of the server's words, and cuts them.
        query: Added to every URL, such as ``?api-version=2024-10-21``; empty for none.
        on_billed: Receives the payload of every success that could not be used: it was paid for.
    """

    def __init__(
        self,
        transport: Transport,
        lanes: Sequence[Lane],
        *,
        max_attempts: int,
        probe_timeout_s: float,
        redact: Callable[[str], str],
        query: str = "",
        on_billed: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.transport = transport
        self.lanes = tuple(lanes)
        self._max_attempts = max_attempts
        self._probe_timeout_s = probe_timeout_s
        self._redact = redact
        self._query = query
        self._on_billed = on_billed
        # Jitter only spreads calls in time; it never reaches a result.
        self._jitter = random.Random()
        self._probes: dict[Lane, asyncio.Task[None]] = {}

    async def send(
        self,
        path: str,
        carry: Carry,
        read: Callable[[dict[str, Any]], T],
        *,
        tokens: float = 0.0,
        max_attempts: int | None = None,
    ) -> T | Rejected:
        """Send until it is answered, refused or hopeless.

        Args:
            path: Below the base_url, with its slash; a leading ``//`` starts at the server's root.
            carry: Sends it once.
            read: Makes the value from the reply, or raises `BadReply`.
            tokens: Expected cost in tokens, for the rate limit.
            max_attempts: In place of the usual number; 1 for what must not happen twice.

        Raises:
            CallFailed: Every attempt ended in failure; ``kind`` says which.
            EngineUnavailable: The server is down, or has been refusing work for too long.
        """
        attempts = delays = 0
        most = max_attempts or self._max_attempts
        troubled: list[Lane] = []
        while True:
            lane = await self._enter(tokens, troubled)
            lane.requests += 1
            lane.retries += attempts + delays > 0
            spare = 0.0
            try:
                outcome = await self._exchange(self.url_of(lane.base_url, path), carry, read)
                if isinstance(outcome, Success):
                    lane.succeed(first_try=attempts + delays == 0)
                    spare = tokens - outcome.tokens if outcome.tokens else 0.0
                    return outcome.value
                wait = self._update_lane(lane, outcome, attempts, delays)
            finally:
                lane.release(spare)
            if outcome.billed is not None:
                self._on_billed(outcome.billed)
            match outcome:
                case Rejected():
                    return outcome
                case Throttled():
                    delays += 1
                case Failed(unreachable=True):
                    attempts += not await self._wait_for_recovery(lane)
                    troubled.append(lane)
                case Failed():
                    attempts += 1
                    troubled.append(lane)
            if isinstance(outcome, Failed) and (outcome.final or attempts >= most):
                raise self._lost(lane, outcome, attempts)
            await asyncio.sleep(wait)

    def _lost(self, lane: Lane, failure: Failed, attempts: int) -> EngineError:
        """Return the error for a call that is given up: its own, unless all others fare alike."""
        words = self._redact(failure.words)
        if failure.failing:
            lane.circuit.lost(lane.now())
        if all(other.circuit.hopeless(lane.now()) for other in self.lanes):
            return EngineUnavailable(
                f"{lane.base_url} fails every call ({words})",
                hint="check the server's log; then repeat the command with --retry-failed, which "
                "also tries again what is recorded as failed",
            )
        return CallFailed(f"{lane.base_url}: {words}", kind=failure.kind, attempts=attempts)

    def url_of(self, base_url: str, path: str) -> str:
        """Return the URL of a path at a server, with the query."""
        url = url_of(base_url, path)
        return url + (self._query.replace("?", "&", 1) if "?" in path else self._query)

    async def _exchange(
        self, url: str, carry: Carry, read: Callable[[dict[str, Any]], T]
    ) -> Outcome[T]:
        try:
            answer = await carry(url)
        except NoAnswer as nothing:
            if nothing.kind == "truncated":
                return Failed("bad-reply", f"the reply broke off ({nothing.words})", failing=True)
            if nothing.kind == "too-large":
                return Failed("too-large", nothing.words, final=True)
            return Failed(
                nothing.kind,
                nothing.words,
                failing=True,
                unreachable=nothing.kind == "unreachable",
            )
        return read_answer(answer, read, time.time())

    def _update_lane(self, lane: Lane, outcome: Outcome[T], attempts: int, delays: int) -> float:
        """Tell the lane what happened; return how long to wait before the next try."""
        spread = 0.5 + 0.5 * self._jitter.random()
        match outcome:
            case Throttled(retry_after=None):
                wait = spread * min(BACKOFF_S * 2.0 ** min(delays + 1, 10), LONGEST_BACKOFF_S)
                self._throttle(lane, wait, outcome, hold=False)
            case Throttled():
                # Never earlier than asked; a little later, so that not all come back at once.
                named = min(outcome.retry_after or 0.0, lane.circuit.max_throttle_s)
                floor = 0.05 * 2.0 ** min(delays, 6)  # some servers say 0 and mean "soon"
                wait = max(named, floor) * (1.0 + 0.1 * self._jitter.random())
                self._throttle(lane, wait, outcome, hold=True)
            case Failed():
                if outcome.failing:
                    lane.limit.troubled()
                    lane.circuit.failed(
                        lane.now(), self._redact(outcome.words), unreachable=outcome.unreachable
                    )
                wait = spread * min(BACKOFF_S * 2.0 ** min(attempts, 10), LONGEST_BACKOFF_S)
            case _:
                lane.circuit.answered()
                wait = 0.0
        return wait

    def _throttle(self, lane: Lane, wait: float, outcome: Throttled, *, hold: bool) -> None:
        lane.throttle(wait, hold=hold)
        now = lane.now()
        if all(other.circuit.exhausted(now) for other in self.lanes):
            minutes = lane.circuit.max_throttle_s / 60.0
            raise EngineUnavailable(
                f"{lane.base_url} has refused every call for over {minutes:.3g} minutes "
                f"({self._redact(outcome.words)})",
                hint="wait for the quota, or raise options.max_throttle_s; "
                "repeat the command to resume",
            )

    async def _enter(self, tokens: float, troubled: Sequence[Lane] = ()) -> Lane:
        """Wait for a slot at a server that is not suspected to be down.

        One that has not failed this call comes first: a server that fails quickly has the most free
        slots, and would draw every retry.
        """
        while True:
            # A lane that is down comes back through the calls that pass by.
            self._begin_probes()
            healthy = self._healthy()
            if not healthy:
                await self._wait_for_recovery(self.lanes[0])
                continue
            lane = await enter([one for one in healthy if one not in troubled] or healthy, tokens)
            if not lane.circuit.suspected:
                return lane
            lane.release(tokens)

    async def _wait_for_recovery(self, lane: Lane) -> bool:
        """Wait until some server answers again; return whether there was anything to outlive.

        Raises:
            EngineUnavailable: None did for as long as is worth waiting.
        """
        outage = False
        while True:
            self._begin_probes()
            if self._healthy():
                return outage or lane.circuit.suspected
            now = lane.now()
            if all(other.circuit.given_up(now) for other in self.lanes):
                # What is being asked just now may still answer.
                await self._probed(asyncio.ALL_COMPLETED)
                if not self._healthy():
                    raise self._unavailable()
            else:
                resting = [other for other in self.lanes if other not in self._probes]
                due = min((other.circuit.next_probe for other in resting), default=None)
                await self._probed(
                    asyncio.FIRST_COMPLETED, None if due is None else max(0.01, due - now)
                )
                outage = not self._healthy()

    def _healthy(self) -> list[Lane]:
        return [lane for lane in self.lanes if not lane.circuit.suspected]

    def _begin_probes(self) -> None:
        """Start every probe that is due; only a call that has no other server waits for one."""
        for lane in self.lanes:
            circuit = lane.circuit
            if circuit.suspected and lane not in self._probes and lane.now() >= circuit.next_probe:
                probe = asyncio.create_task(self._probe(lane))
                self._probes[lane] = probe
                probe.add_done_callback(partial(self._ended, lane))

    def _ended(self, lane: Lane, _: asyncio.Task[None]) -> None:
        del self._probes[lane]

    async def _probed(self, until: str, seconds: float | None = None) -> None:
        """Wait for the probes under way, or for so long."""
        probes = list(self._probes.values())
        if not probes:
            await asyncio.sleep(seconds or 0.0)
            return
        done, _ = await asyncio.wait(probes, timeout=seconds, return_when=until)
        for probe in done:
            if not probe.cancelled():
                probe.result()

    async def aclose(self) -> None:
        """End the probes under way."""
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        if probes:
            await asyncio.wait(probes)

    async def _probe(self, lane: Lane) -> None:
        """Ask a suspected server something every healthy one can answer, if it is time to."""
        async with lane.probing:
            circuit = lane.circuit
            if not circuit.suspected or lane.now() < circuit.next_probe:
                return  # another engine at this server has asked meanwhile
            try:
                answer = await self.transport.get(
                    self.url_of(lane.base_url, "/models"), self._probe_timeout_s
                )
            except NoAnswer as nothing:
                circuit.probed(lane.now(), alive=False, reason=self._redact(nothing.words))
                return
            words = f"HTTP {answer.status}: {self._redact(explain(answer.body).words)}"
            circuit.probed(lane.now(), alive=answer.status < 500, reason=words)

    def _unavailable(self) -> EngineUnavailable:
        down = "; ".join(f"{lane.base_url} ({lane.circuit.reason})" for lane in self.lanes)
        return EngineUnavailable(
            f"no response from {down}",
            hint="check that the server runs, and check base_url; "
            "what was answered is kept: repeat the command to resume",
        )


def url_of(base_url: str, path: str) -> str:
    """Join; ``//path`` lies beside the API version instead of below it (vLLM's /tokenize)."""
    if path.startswith("//"):
        return base_url.removesuffix("/v1") + path[1:]
    return base_url + path
