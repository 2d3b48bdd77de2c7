"""Endpoint: one model at its servers, which may be several that are alike.

Connects at the first call, sends through `rlaif.engines.traffic.retries`, remembers what the server
says about itself, and turns refusals into errors. Knows nothing about requests and replies.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus, urlencode

import orjson

from rlaif.engines.ask import run_together
from rlaif.engines.openai import rejections, vllm_extensions, wire
from rlaif.engines.openai.options import NO_KEY, OpenAIOptions
from rlaif.engines.protocol import Served, Usage
from rlaif.engines.traffic.explain import explain, shorten, without_echo
from rlaif.engines.traffic.lane_stats import LaneStats
from rlaif.engines.traffic.lanes import lane_to
from rlaif.engines.traffic.outcomes import Rejected, Success, read_answer
from rlaif.engines.traffic.retries import Sender
from rlaif.engines.traffic.transport import (
    Answer,
    FastTransport,
    NoAnswer,
    Transport,
    Wiring,
    open_transport,
)
from rlaif.errors import CallFailed, EngineError, EngineUnavailable, ModelUnknown

log = logging.getLogger(__name__)

T = TypeVar("T")
Keep = Callable[[bytes], None]

CHAT = "/chat/completions"
_PATIENCE_S = 5.0
"""How long `Endpoint.look` tries to reach a server, unless ``max_outage_s`` was set: as long as a
run waits for one that never answered."""

VLLM = "vllm"
"""The owner that vLLM names in its list of models."""

_LONGEST_PAUSE_S = 300.0
"""Between failed looks at the list of models: the second follows at once, later ones wait."""

_MOST_WORDS = 2000
_VERSION = re.compile(r"v?[\d.-]+(?:-?(?:alpha|beta|preview))?\d*|true|false")
"""A value in a query that is no secret."""

_TELLING = 8
"""Characters of a secret that give it away."""

CHARACTERS_PER_TOKEN = 4
"""For the estimate that a tokens-per-minute limit needs before the server has counted."""


class Endpoint:
    """A model behind one or more addresses.

    Args:
        model: The name the servers know it by.
        urls: Normalised addresses.
        headers: Sent with every request; their values are secrets.
        query: Added to every address; values that are no version are secrets.
        key_name: The environment variable the key came from, for messages.
        options: How to connect and how hard to push.
    """

    def __init__(
        self,
        model: str,
        urls: Sequence[str],
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        key_name: str | None,
        options: OpenAIOptions,
    ) -> None:
        self.model = model
        self.urls = tuple(urls)
        self._headers = dict(headers)
        self._secrets = _secrets(headers, query)
        self._key_name = key_name
        self._options = options
        self._fixed = {"model": model, **options.extra_body}
        self._transport: Transport | None = None
        self._sender: Sender | None = None
        self._served: dict[str, str] | None = None
        self._ask_models_at = self._models_pause_s = 0.0
        self._learning = asyncio.Lock()
        self._worked = False
        self._wasted: Usage | None = None
        self._query = f"?{urlencode(query)}" if query else ""

    def __repr__(self) -> str:
        return f"Endpoint(model={self.model!r}, base_url={', '.join(self.urls)!r})"

    async def chat(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[dict[str, Any]], T],
        *,
        tokens: int,
        max_attempts: int | None = None,
    ) -> T | Rejected:
        """Ask for a completion; ``tokens`` is the most the reply may take."""
        sent = await self.send(
            path, self.whole(body), read, tokens=tokens, max_attempts=max_attempts
        )
        if not isinstance(sent, Rejected):
            self.worked()
        return sent

    def whole(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a chat completion's body with the model and the configured fields."""
        return {**body, **self._fixed}

    @property
    def max_attempts(self) -> int:
        """How often a call is tried."""
        return self._options.max_attempts

    def worked(self) -> None:
        """Note that the server has answered a call properly: key and model are right."""
        self._worked = True

    async def send(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        read: Callable[[dict[str, Any]], T],
        *,
        tokens: int = 0,
        max_attempts: int | None = None,
    ) -> T | Rejected:
        """Post JSON, or fetch without a body; errors as `Sender.send` says."""
        try:
            data = b"" if body is None else orjson.dumps(body)
        except orjson.JSONEncodeError as problem:  # text with half a surrogate pair, for one
            raise CallFailed(
                f"the request is not valid JSON: {problem}", kind="bad-request"
            ) from None
        transport, sender = self._opened()
        probe_s = self._options.connect_timeout_s

        def carry(url: str) -> Awaitable[Answer]:
            return transport.get(url, probe_s) if body is None else transport.post(url, data)

        cost = len(data) / CHARACTERS_PER_TOKEN + tokens
        return await sender.send(path, carry, read, tokens=cost, max_attempts=max_attempts)

    async def upload(
        self, path: str, file: Path, fields: Mapping[str, str], read: Callable[[dict[str, Any]], T]
    ) -> T | Rejected:
        """Post a file as a form. Needs the transport ``batch`` or ``fast``."""
        transport, sender = self._opened()
        assert isinstance(transport, FastTransport)
        return await sender.send(path, lambda url: transport.upload(url, file, fields), read)

    async def download(self, path: str, start: Callable[[], Keep]) -> Rejected | None:
        """Fetch a file piece by piece. Needs the transport ``batch`` or ``fast``.

        Args:
            path: Of the file at the server.
            start: Called at every attempt; returns what takes the pieces.
        """
        transport, sender = self._opened()
        assert isinstance(transport, FastTransport)
        return await sender.send(path, lambda url: transport.download(url, start()), lambda _: None)

    async def tokenize(self, body: Mapping[str, Any]) -> list[int] | Rejected:
        """Ask vLLM's tokenizer."""
        return await self.send(
            "//tokenize", {"model": self.model, **body}, vllm_extensions.read_tokens
        )

    async def is_vllm(self) -> bool:
        """Return whether /models says that vLLM serves."""
        return VLLM in (await self.models() or {}).values()

    async def models(self) -> dict[str, str] | None:
        """Return the served models with their owners; empty if the server has no list.

        What it answers is asked for once. None while it does not answer; then it is asked again,
        but not at every call.
        """
        if self._served is None:
            async with self._learning:
                if time.monotonic() >= self._ask_models_at and self._served is None:
                    self._served = await self._ask_models()
                    self._ask_models_at = time.monotonic() + self._models_pause_s
                    self._models_pause_s = min(2.0 * self._models_pause_s + 1.0, _LONGEST_PAUSE_S)
        return self._served

    async def look(self) -> Served:
        """Fetch /models of every server once; several are alike, so one of them is enough.

        Raises:
            EngineUnavailable: None can be reached.
        """
        looked = await run_together([self._reach(url) for url in self.urls])
        answers = [one for one in looked if isinstance(one, Answer)]
        answer = min(answers, key=lambda one: one.status, default=None)
        if answer is None:
            down = "; ".join(f"{url} ({why})" for url, why in zip(self.urls, looked, strict=True))
            raise EngineUnavailable(
                f"no response from {down}",
                hint="check base_url, and that the server runs; options.max_outage_s says for how "
                "many seconds one that is still starting is waited for",
            )
        outcome = read_answer(answer, wire.read_models, time.time())
        if isinstance(outcome, Success):
            self._served = outcome.value
        elif isinstance(outcome, Rejected) or answer.status < 300:  # what it says is no list
            self._served = {}
        words = self.redact(explain(answer.body).words)
        refused = f"HTTP {answer.status}: {words}" if answer.status == 401 else ""
        return Served(self.urls[0], tuple(self._served or ()), refused)

    def unlisted(self) -> ModelUnknown | None:
        """Return the error for a model that is not among those that /models listed."""
        served = list(self._served or ())
        if not served or rejections.is_listed(self.model, served):
            return None
        return rejections.unserved(self.model, base_url=self.urls[0], served=served)

    async def _reach(self, url: str) -> Answer | str:
        """Return what /models answers, or why the server cannot be reached."""
        transport, sender = self._opened()
        options = self._options
        unset = "max_outage_s" not in options.model_fields_set
        patience = _PATIENCE_S if unset else options.max_outage_s
        until, told = time.monotonic() + patience, patience <= _PATIENCE_S
        while True:
            try:
                return await transport.get(sender.url_of(url, "/models"), options.connect_timeout_s)
            except NoAnswer as nothing:
                if nothing.kind != "unreachable":
                    return Answer(504, {}, b"")  # it is there, and slow or broken
                if time.monotonic() >= until:
                    return self.redact(nothing.words)
                if not told:
                    log.warning("%s does not respond yet: waiting up to %g s", url, patience)
                    told = True
            await asyncio.sleep(0.5)

    async def error_for(self, rejected: Rejected) -> EngineError:
        """Return the error that a refusal means, after a look at what is served if need be."""
        cleaned = replace(rejected, words=self.redact(rejected.words))
        url = self.urls[0]
        if not self._worked and rejections.is_about_model(cleaned):
            served = list(await self.models() or ())
            missing = rejections.missing_model(
                cleaned, model=self.model, base_url=url, served=served
            )
            if missing:
                return missing
        return rejections.error_of(
            cleaned, base_url=url, key_name=self._key_name, worked=self._worked
        )

    def cleaned(self, rejected: Rejected, body: Mapping[str, Any]) -> Rejected:
        """Return a refusal without secrets, and without what it repeats of the request."""
        texts = [one["content"] for one in body["messages"] if isinstance(one["content"], str)]
        words = without_echo(self._hide(rejected.words)[:_MOST_WORDS], texts)
        return replace(rejected, words=words)

    def redact(self, words: str) -> str:
        """Take every secret out of a server's words, then cut them to what is shown."""
        return shorten(self._hide(words))

    def take_wasted(self) -> Usage | None:
        """Return the tokens of replies that could not be used since this was last asked."""
        wasted, self._wasted = self._wasted, None
        return wasted

    def _hide(self, words: str) -> str:
        """Take out every secret, and every part of one that a server cut out of it."""
        for secret in self._secrets:
            words = words.replace(secret, "***")
            parts = {secret[at : at + _TELLING] for at in range(len(secret) - _TELLING + 1)}
            kept, hidden = [], 0  # hidden: up to where a part of it is repeated
            for at, character in enumerate(words):
                if words[at : at + _TELLING] in parts:
                    if at >= hidden:
                        kept.append("***")
                    hidden = at + _TELLING
                if at >= hidden:
                    kept.append(character)
            words = "".join(kept)
        return words

    def note_wasted(self, payload: dict[str, Any]) -> None:
        """Add the tokens of a reply that was paid for and could not be used."""
        self.note_unused(wire.read_usage(payload))

    def note_unused(self, usage: Usage) -> None:
        """Add tokens that were paid for, of which nothing came."""
        before = self._wasted or Usage()
        if usage != Usage():
            self._wasted = Usage(
                before.prompt_tokens + usage.prompt_tokens,
                before.completion_tokens + usage.completion_tokens,
                before.cached_tokens + usage.cached_tokens,
            )

    def stats(self) -> tuple[LaneStats, ...]:
        """Return what the lanes do, shared with others that ask the same model."""
        return tuple(lane.stats() for lane in self._sender.lanes) if self._sender else ()

    async def aclose(self) -> None:
        """Close the connections. Safe to call twice; a later call opens new ones."""
        transport, self._transport = self._transport, None
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.aclose()
        if transport is not None:
            await transport.aclose()

    async def _ask_models(self) -> dict[str, str] | None:
        try:
            attempts = 1 if self._models_pause_s else None  # it has failed before
            sent = await self.send("/models", None, wire.read_models, max_attempts=attempts)
        except CallFailed as failed:
            return {} if failed.kind == "bad-reply" else None  # it answers, but with no list
        return {} if isinstance(sent, Rejected) else sent

    def _opened(self) -> tuple[Transport, Sender]:
        """Connect; not before the first call, because connections belong to the running loop."""
        if self._transport is not None and self._sender is not None:
            return self._transport, self._sender
        options = self._options
        bounds = options.bounds(self.urls)
        wiring = Wiring(
            base_url=self.urls[0],
            headers=self._headers,
            timeout_s=options.timeout_s,
            connect_timeout_s=options.connect_timeout_s,
            # Lanes bound what is in flight; a few more let probes through.
            connections=bounds.maximum * len(self.urls) + 8,
            max_reply_bytes=options.max_reply_bytes,
        )
        self._transport = open_transport(options.transport, wiring)
        self._sender = Sender(
            self._transport,
            [lane_to(url, self.model, bounds) for url in self.urls],
            max_attempts=options.max_attempts,
            probe_timeout_s=options.connect_timeout_s,
            redact=self.redact,
            query=self._query,
            on_billed=self.note_wasted,
        )
        return self._transport, self._sender


def _secrets(headers: Mapping[str, str], query: Mapping[str, str]) -> list[str]:
    """Return the values that must never be shown, longest first, also as they stand in a URL."""
    values = {
        value.removeprefix("Bearer ") for name, value in headers.items() if name != "Content-Type"
    }
    values |= {value for value in query.values() if not _VERSION.fullmatch(value)}
    written = {spell(value) for value in values for spell in (str, quote, quote_plus)}
    return sorted(written - {NO_KEY, ""}, key=len, reverse=True)
