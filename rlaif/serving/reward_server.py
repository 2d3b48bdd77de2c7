"""The reward server: scorers behind HTTP, on 127.0.0.1 only.

What cannot be scored is never a silent None and never a made-up number:

- ``/score`` answers 200 with null in its place and the reason beside it;
- OpenRLHF would make a tensor of a null, and verl would add it up, so ``/get_reward`` and
  ``/compute_score`` answer 422 with the reason in the status line (which is what OpenRLHF logs),
  unless the file says which number stands for *unscored*;
- 400 is an invalid request, 401 one without the token, 403 one for another host or of
  a page in a browser, 408 one that arrives too slowly, 413 one that is too large, 415 one that is
  not JSON, 500 a scorer that failed, 503 a judge that is down or too many requests, 504 a scorer
  that hangs.
"""

import asyncio
import contextlib
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from aiohttp import web

from rlaif.config.reward import ServeRewardConfig
from rlaif.errors import EngineUnavailable, RlaifError
from rlaif.runs.text import one_line
from rlaif.serving.admission import Admission, Handler
from rlaif.serving.requests import BadRequest, Question, read_openrlhf, read_plain, read_verl
from rlaif.serving.scorer import OpenedScorer
from rlaif.training.scorers import ScorerHangs, await_scores, name_of

HOST = "127.0.0.1"
_COMPUTING = 2
"""Scorers that compute at once. Their threads share one interpreter with the loop that answers
``/health``: it would wait for its turn among as many as there are requests."""

_SWITCH_S = 0.0005
"""How long a computing thread keeps the interpreter from the loop. Python's own 5 ms, at every
read and write of 200 clients, are seconds."""

_RECENT = 1024
"""Requests whose times are kept."""


class Unscored(Exception):  # noqa: N818 - says what it is
    """A response has no score, and the asker can take no null."""

    def __init__(self, scores: Sequence[float | None], reasons: Sequence[str]) -> None:
        super().__init__(next(reason for reason in reasons if reason))
        self.scores, self.reasons = scores, reasons


class RewardServer:
    """An aiohttp application around one scorer.

    Args:
        opened: The scorer and its panels.
        config: Limits, and what stands for *unscored*.
        token: What every request but ``/health`` must bring; empty asks for none.
    """

    def __init__(self, opened: OpenedScorer, config: ServeRewardConfig, token: str = "") -> None:
        self._opened = opened
        self._config = config
        self.admission = Admission(
            hosts=config.hosts, token=token, read_seconds=config.read_seconds
        )
        self._free = asyncio.Semaphore(config.concurrency)
        self._turn = threading.Semaphore(_COMPUTING)
        self._started = time.monotonic()
        self._waiting = 0
        self._working = 0
        self._requests: Counter[str] = Counter()
        self._problems: Counter[str] = Counter()
        self._responses = self._unscored = 0
        self._reasons: Counter[str] = Counter()
        self._seconds: deque[float] = deque(maxlen=_RECENT)

    def application(self) -> web.Application:
        """Return the application; run it with `aiohttp.web.run_app`."""
        application = web.Application(
            client_max_size=self._config.max_bytes, middlewares=[self._only_admitted]
        )
        application.router.add_get("/health", self._health)
        application.router.add_get("/status", self._status)
        for path, answer in (
            ("/get_reward", self._openrlhf),
            ("/compute_score", self._verl),
            ("/score", self._plain),
        ):
            application.router.add_post(path, self._guarded(path, answer))
        return application

    async def _openrlhf(self, body: Any) -> dict[str, Any]:
        questions = await asyncio.to_thread(read_openrlhf, body, self._config.special_tokens)
        rewards, missing = await self._whole(questions)
        # Every value of extra_logs becomes a tensor there: numbers only.
        return {"rewards": rewards, "scores": rewards, "extra_logs": {"unscored": missing}}

    async def _verl(self, body: Any) -> dict[str, Any]:
        rewards, missing = await self._whole(read_verl(body))
        return {"score": rewards[0], "unscored": missing[0]}

    async def _plain(self, body: Any) -> dict[str, Any]:
        scores, reasons = await self._score(read_plain(body))
        return {"scores": scores, "reasons": reasons}

    async def _whole(self, questions: Sequence[Question]) -> tuple[list[float], list[float]]:
        """Scores without a gap, and 1.0 for each that only stands for one."""
        scores, reasons = await self._score(questions)
        stand_in = self._config.unscored
        if isinstance(stand_in, str) and any(score is None for score in scores):
            raise Unscored(scores, reasons)
        number = 0.0 if isinstance(stand_in, str) else stand_in
        return (
            [number if score is None else score for score in scores],
            [float(score is None) for score in scores],
        )

    async def _score(self, questions: Sequence[Question]) -> tuple[list[float | None], list[str]]:
        why: list[list[str]] = [[] for _ in questions]
        scores = await await_scores(
            self._in_turn,
            [question.messages for question in questions],
            [question.response for question in questions],
            {
                "tags": [question.tags for question in questions],
                "reference": [question.reference for question in questions],
                "why": why,
            },
            timeout=self._config.timeout,
        )
        reasons = [
            "" if score is not None else "; ".join(some) or "the scorer gave no score"
            for score, some in zip(scores, why, strict=True)
        ]
        self._responses += len(scores)
        missing = [reason for reason in reasons if reason]
        self._unscored += len(missing)
        self._reasons.update(missing)
        return scores, reasons

    @web.middleware
    async def _only_admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self.admission.check(request)
        except web.HTTPException as problem:
            self._problems[f"{problem.status}"] += 1
            return _explain(problem)
        return await handler(request)

    def _in_turn(self, *arguments: Any, **columns: Any) -> Any:
        """Call the scorer; what an async one waits for is waited for elsewhere."""
        with self._turn:
            return self._opened.scorer(*arguments, **columns)

    def _guarded(
        self, path: str, answer: Callable[[Any], Awaitable[dict[str, Any]]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            self._requests[path] += 1
            try:
                return _json(await self._admitted(request, answer))
            except Exception as problem:  # noqa: BLE001 - the one place that turns errors into replies
                reply = _explain(problem)
                self._problems[f"{reply.status}"] += 1
                return reply

        return handle

    async def _admitted(
        self, request: web.Request, answer: Callable[[Any], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send JSON, as content type application/json")
        if self._waiting >= self._config.max_waiting and self._free.locked():
            raise web.HTTPServiceUnavailable(text="too many requests are waiting; try again")
        body = await asyncio.to_thread(_parse, await self.admission.read(request))
        started = time.monotonic()
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        self._working += 1
        try:
            return await answer(body)
        finally:
            self._working -= 1
            self._free.release()
            self._seconds.append(time.monotonic() - started)

    async def _health(self, _: web.Request) -> web.Response:
        return _json({"status": "ok", "scorer": name_of(self._opened.scorer)})

    async def _status(self, _: web.Request) -> web.Response:
        seconds = sorted(self._seconds)
        panels = self._opened.panels
        return _json(
            {
                "scorer": name_of(self._opened.scorer),
                "up_seconds": time.monotonic() - self._started,
                "requests": dict(self._requests),
                "problems": dict(self._problems),
                "in_flight": self._working,
                "waiting": self._waiting,
                "responses": self._responses,
                "unscored": self._unscored,
                "reasons": dict(self._reasons.most_common(10)),
                "recent_seconds": {
                    "median": seconds[len(seconds) // 2] if seconds else None,
                    "longest": seconds[-1] if seconds else None,
                },
                "judges": {
                    "asked": sum(e.asked.total() for p in panels for e in p.recorded),
                    "remembered": sum(e.remembered.total() for p in panels for e in p.recorded),
                    "spent": _spent(panels),
                },
            }
        )


def run_reward_server(
    opened: OpenedScorer,
    config: ServeRewardConfig,
    *,
    token: str = "",
    on_ready: Callable[[int], None],
) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight then have ``drain_seconds`` to finish.

    Args:
        opened: The scorer; still open afterwards.
        config: Port and limits.
        token: What every request but ``/health`` must bring; empty asks for none.
        on_ready: Called with the port once requests are answered.

    Raises:
        OSError: The port is taken.
    """

    async def serve() -> None:
        server = RewardServer(opened, config, token)
        runner = web.AppRunner(
            server.application(),
            access_log=None,
            shutdown_timeout=config.drain_seconds,
            auto_decompress=False,
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, config.port)
            await site.start()
            assert runner.server is not None
            async with server.admission.sweeping(runner.server):
                with _stop_signals() as stop:
                    on_ready(runner.addresses[0][1])
                    await stop.wait()
        finally:
            await runner.cleanup()  # refuses new connections, then waits for what is in flight

    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        asyncio.run(serve())
    finally:
        sys.setswitchinterval(usual)


@contextlib.contextmanager
def _stop_signals() -> Any:
    import signal

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise BadRequest(f"the body is not valid JSON: {problem}") from None


def _explain(problem: Exception) -> web.Response:
    """One status and one message for everything that can go wrong."""
    match problem:
        case Unscored():
            body = {"scores": list(problem.scores), "reasons": list(problem.reasons)}
            return _refuse(422, f"unscored: {problem}", **body)
        case BadRequest():
            return _refuse(400, str(problem))
        case web.HTTPException():
            return _refuse(problem.status, problem.text or problem.reason)
        case EngineUnavailable():
            return _refuse(503, str(problem))
        case ScorerHangs():
            return _refuse(504, str(problem))
        case RlaifError():
            return _refuse(500, str(problem))
        case _:
            return _refuse(500, f"the server failed: {type(problem).__name__}: {problem}")


def _refuse(status: int, message: str, **body: Any) -> web.Response:
    line = one_line(message, 200).encode("ascii", "replace").decode()
    headers = {"Retry-After": "1"} if status == 503 else {}
    reply = _json({"error": message, **body}, status=status, headers=headers)
    reply.set_status(status, line)  # the reason phrase is all that OpenRLHF shows
    return reply


def _json(body: Any, **options: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json", **options)


def _spent(panels: Sequence[Any]) -> float | None:
    known = [e.spent for panel in panels for e in panel.recorded if e.spent is not None]
    return sum(known) if known else None
