"""Chat: one chat completion, in whatever form the server takes it.

The first call of every form goes ahead of the others, so that what a server refuses costs one call
and not as many as are in flight. It does not hold them up for long: refusals come at once.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from rlaif.engines.openai import rejections, responses
from rlaif.engines.openai.batch.client import BatchClient
from rlaif.engines.openai.dialect import Body, Dialect, Lesson
from rlaif.engines.openai.endpoint import CHAT, Endpoint
from rlaif.engines.traffic.outcomes import TOO_LONG, Rejected
from rlaif.errors import CallFailed, EngineError

T = TypeVar("T")
Read = Callable[[dict[str, Any]], T]

PILOT_S = 2.0
"""How long other calls of a form wait for the first one."""

_EARLY = 2
"""Attempts with a format that end in 5xx before it is tried without."""

_SLICES = 8
"""The wait in parts: a process that stood still for a while has used up only one of them."""

_MOST_PILOTS = 3
"""After so many that came to nothing, calls of a form go together: it is not the form."""

_OURS = frozenset({"temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop"})


class Chat:
    """Chat completions of one model.

    Args:
        endpoint: The server.
        dialect: What it takes.
        batches: Where calls go instead, with ``transport: batch``.
        by_responses: Whether the Responses API is asked.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        dialect: Dialect,
        batches: BatchClient | None,
        *,
        by_responses: bool,
    ) -> None:
        self._endpoint = endpoint
        self._dialect = dialect
        self._batches = batches
        self._by_responses = by_responses
        self._proven: set[tuple[Any, ...]] = set()
        self._pilots: dict[tuple[Any, ...], asyncio.Event] = {}
        self._tried: dict[tuple[Any, ...], int] = {}

    async def ask(
        self, body: Body, read: Read[T], *, tokens: int, seeds: Sequence[int] = ()
    ) -> T | Rejected:
        """Ask, and ask again in another form as long as the server refuses a field.

        Args:
            body: With every field to send, without the model.
            read: Makes the value from the reply, or raises `BadReply`.
            tokens: The most the reply may take.
            seeds: What tells this call from another with the same body, in batches.
        """
        refused: list[Body] = []
        lessons: list[Lesson] = []
        try:
            while True:
                shaped = self._dialect.shape(body)
                form = _form_of(shaped)
                if form in self._proven or self._batches is not None:
                    sent = await self._send(shaped, body, read, tokens, seeds)
                elif await self._waited(form):
                    continue
                else:
                    sent = await self._try_form(form, body, read, tokens)
                if not isinstance(sent, Rejected):
                    self._proven.add(form)
                    self._dialect.confirm(lessons)
                    return sent
                refused.append(shaped)
                sent = self._endpoint.cleaned(sent, body)
                if not self._learned(sent, body, refused, lessons):
                    self._dialect.take_back(lessons)  # one bad call says nothing about the others
                    return sent
        except BaseException:
            self._dialect.take_back(lessons)
            raise

    def _learned(
        self, rejected: Rejected, body: Body, refused: Sequence[Body], lessons: list[Lesson]
    ) -> bool:
        """Return whether there is a form that was not refused, after a lesson if need be."""
        too_long = TOO_LONG.search(f"{rejected.code} {rejected.words}")
        if too_long or rejections.is_filtered(rejected):
            return False
        if self._dialect.shape(body) in refused:
            lesson = self._dialect.learn(rejected, body)
            if lesson is None:
                return False
            lessons.append(lesson)
        return self._dialect.shape(body) not in refused

    async def error_for(self, rejected: Rejected, body: Mapping[str, Any]) -> EngineError:
        """Return the error for a call that was refused in every form."""
        url = self._endpoint.urls[0]
        if not TOO_LONG.search(f"{rejected.code} {rejected.words}"):
            whole = self._endpoint.whole(self._dialect.shape(dict(body)))
            problem = rejections.unsupported(rejected, whole, base_url=url, ours=_OURS)
            if problem is not None:
                return problem
        return await self._endpoint.error_for(rejected)

    async def _waited(self, form: tuple[Any, ...]) -> bool:
        """Wait for a call of this form that is ahead; return whether it came to an end."""
        pilot = self._pilots.get(form)
        if pilot is None:
            return False
        for _ in range(_SLICES):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PILOT_S / _SLICES):
                    await pilot.wait()
                    return True
        return False

    async def _try_form(
        self, form: tuple[Any, ...], body: Body, read: Read[T], tokens: int
    ) -> T | Rejected:
        """Send the first call of a form, or one of those that the first kept waiting too long."""
        shaped = self._dialect.shape(body)
        if form in self._pilots:
            return await self._send(shaped, body, read, tokens)
        ended = self._pilots[form] = asyncio.Event()
        try:
            if "response_format" not in shaped:
                return await self._send(shaped, body, read, tokens)
            return await self._try_format(shaped, body, read, tokens)
        finally:
            del self._pilots[form]
            ended.set()
            self._tried[form] = self._tried.get(form, 0) + 1
            if self._tried[form] >= _MOST_PILOTS:
                self._proven.add(form)

    async def _try_format(
        self, shaped: Body, body: Body, read: Read[T], tokens: int
    ) -> T | Rejected:
        """Send a call with a format; some servers answer 500 to it, which is tried early."""
        early = min(_EARLY, self._endpoint.max_attempts)
        try:
            return await self._send(shaped, body, read, tokens, max_attempts=early)
        except CallFailed as failed:
            if failed.kind.startswith("http-5"):
                return await self._without_format(failed, body, read, tokens)
            left = self._endpoint.max_attempts - failed.attempts
            if failed.attempts < early or left < 1:  # it is final, or there is no more to try
                raise
            return await self._send(shaped, body, read, tokens, max_attempts=left)

    async def _without_format(
        self, failed: CallFailed, body: Body, read: Read[T], tokens: int
    ) -> T | Rejected:
        """Find out whether it is the format that a server fails at, and note that if it is."""
        payloads: list[dict[str, Any]] = []

        def keep(payload: dict[str, Any]) -> T:
            payloads.append(payload)
            return read(payload)

        for form in self._dialect.looser_formats(body):
            less = self._dialect.with_format(body, form)
            try:
                sent = await self._send(less, body, keep, tokens)
            except CallFailed:
                continue
            if isinstance(sent, Rejected):
                continue
            try:
                again = await self._send(
                    self._dialect.shape(body), body, read, tokens, max_attempts=1
                )
            except CallFailed as still:
                if still.kind.startswith("http-5"):
                    self._dialect.note("response_format", form, still.message)
                return sent
            if isinstance(again, Rejected):
                return sent
            self._endpoint.note_wasted(payloads[-1])  # the server had failed for other reasons
            return again
        raise failed

    def _send(
        self,
        shaped: Body,
        body: Body,
        read: Read[T],
        tokens: int,
        seeds: Sequence[int] = (),
        max_attempts: int | None = None,
    ) -> Coroutine[Any, Any, T | Rejected]:
        if self._batches is not None:
            return self._batches.chat(shaped, read, asked=body, seeds=seeds)
        if not self._by_responses:
            return self._endpoint.chat(CHAT, shaped, read, tokens=tokens, max_attempts=max_attempts)
        return self._endpoint.chat(
            responses.RESPONSES,
            responses.body_of(shaped),
            lambda payload: read(responses.chat_of(payload)),
            tokens=tokens,
            max_attempts=max_attempts,
        )


def _form_of(body: Body) -> tuple[Any, ...]:
    """Return which fields a body has, and who speaks first; their values do not matter."""
    messages = body["messages"]
    return (*body, messages[0]["role"] if messages else "")
