"""Engine ``openai``: any server that speaks OpenAI's chat completions, hosted or one's own.

What a request looks like on the wire is in `rlaif.engines.openai.wire` and
`rlaif.engines.openai.vllm_extensions`, how it gets to the server and back in
`rlaif.engines.openai.endpoint`. This file joins them, and finds out once per engine which of
several ways a server knows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.engines.ask import run_together
from rlaif.engines.openai import rejections, responses, wire
from rlaif.engines.openai.batch.client import BatchClient
from rlaif.engines.openai.batch.folders import load
from rlaif.engines.openai.chat import Chat
from rlaif.engines.openai.dialect import OMITTED, Dialect
from rlaif.engines.openai.endpoint import Endpoint
from rlaif.engines.openai.labels import Labels
from rlaif.engines.openai.options import (
    OPENAI_URL,
    OpenAIOptions,
    read_headers,
    read_key,
    read_options,
    read_query,
    read_urls,
)
from rlaif.engines.openai.prices import price_of
from rlaif.engines.openai.scoring import score_continuation
from rlaif.engines.protocol import Capability, Generate, Label, Reply, Request, Score, Served, Usage
from rlaif.engines.traffic.lane_stats import LaneStats, tell_trouble
from rlaif.engines.traffic.outcomes import BadReply, Rejected
from rlaif.engines.traffic.transport import check_installed
from rlaif.errors import CallFailed, ConfigError, EngineError, EngineMissing, ModelUnknown
from rlaif.records import content_id


def build_openai_engine(
    *,
    model: str,
    base_url: str | None = None,
    api_key_env: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> "OpenAIEngine":
    """Return an engine for an OpenAI-compatible server; nothing is sent before the first call.

    Args:
        model: The name the server knows it by.
        base_url: Such as ``http://127.0.0.1:8000/v1``; OpenAI itself by default.
        api_key_env: Name of the environment variable that holds the key. Without one a dummy is
            sent, which self-hosted servers ignore.
        options: See `OpenAIOptions`.

    Raises:
        ConfigError: A wrong option or address.
        EngineMissing: No key where one is needed, or the extra is not installed.
    """
    settings = read_options(options or {})
    urls = read_urls(base_url, settings.base_urls, settings.provider)
    key = read_key(api_key_env, urls)
    headers = read_headers(settings.headers_env, key, settings.key_header)
    check_installed(settings.transport)
    query = read_query(settings.query, settings.query_env)
    endpoint = Endpoint(
        model, urls, headers=headers, query=query, key_name=api_key_env, options=settings
    )
    return OpenAIEngine(endpoint, settings)


class OpenAIEngine:
    """A model behind an OpenAI-compatible server. Build with `build_openai_engine`."""

    def __init__(self, endpoint: Endpoint, options: OpenAIOptions) -> None:
        self._endpoint = endpoint
        self._options = options
        self._batches: BatchClient | None = None
        if options.transport == "batch":
            self._batches = BatchClient(
                endpoint, options.batch, prefix=self._prefix, max_attempts=options.max_attempts
            )
        self._dialect = Dialect(
            options, max_tokens_field=_max_tokens_field(options, endpoint), who=endpoint.urls[0]
        )
        if options.api == "responses":
            for name in responses.MISSING:
                self._dialect.leave_out(name)
        self._many = False
        """Whether several samples have come in one call."""

        self._chat = Chat(
            endpoint, self._dialect, self._batches, by_responses=options.api == "responses"
        )
        self._labels = Labels(endpoint, self._chat, self._dialect, options)
        self._capabilities = _capabilities(options, samples=self._dialect.offers_n)

    def __repr__(self) -> str:
        return f"OpenAIEngine({self._endpoint!r})"

    @property
    def identity(self) -> Mapping[str, Any]:
        """What can change an answer. No secrets, no speed."""
        options, urls = self._options, self._endpoint.urls
        where: dict[str, Any] = {"base_url": urls[0] if len(urls) == 1 else list(urls)}
        if options.served_as is not None:
            where = {"served_as": options.served_as}
        # What was not known when the first runs were made is there only when it is set.
        said = {
            "omit": sorted(options.omit),
            "system": "fold" if options.system == "fold" else "",
            "api": "responses" if options.api == "responses" else "",
        }
        return {
            "engine": "openai",
            "model": self._endpoint.model,
            **where,
            "extra_body": options.extra_body,
            "labels": options.labels,
            "top_logprobs": options.top_logprobs,
            "structured": options.structured,
            **{name: value for name, value in said.items() if value},
        }

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the options promise; whether the server keeps it shows at the first call."""
        return self._capabilities

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Answer, as `rlaif.engines.Engine.ask` says.

        Raises:
            CallFailed: This call failed for good.
            EngineUnavailable: The server is down, or refused all work for too long.
            EngineMissing: It has no such model, does not take the key, or cannot do this.
        """
        match request:
            case Generate():
                self._check(request)
                return await self._generate(request)
            case Label():
                self._check(request)
                return [await self._labels.ask(request)]
            case Score():
                return [await self._score(request)]

    async def aclose(self) -> None:
        """Close the connections. Safe to call twice; a later call opens new ones."""
        if self._batches is not None:
            await self._batches.aclose()
        await self._endpoint.aclose()

    @property
    def batching(self) -> bool:
        """Whether calls are sent in batches."""
        return self._batches is not None

    async def look(self) -> Served:
        """Fetch the servers' list of models.

        Raises:
            EngineUnavailable: None of them can be reached.
        """
        return await self._endpoint.look()

    def unlisted(self) -> ModelUnknown | None:
        """Return the error for a model that is not in the list that `look` fetched."""
        return self._endpoint.unlisted()

    def takes(self) -> Mapping[str, Any]:
        """Return what is sent in place of fields, as far as is known, and how labels are read."""
        sent = {name: self._dialect.takes(name) for name in ("n", "seed", "stop")}
        return {**sent, **self._dialect.learned, "labels": self._labels.how}

    def keep_state(self, folder: Path) -> None:
        """Keep batches in this folder, and take up those that are there.

        Raises:
            ConfigError: There are some, but the transport is no longer ``batch``.
        """
        if self._batches is not None:
            self._batches.keep_in(folder)
            return
        left = [one.name for one in load(folder, self._prefix) if one.known.results is None]
        if left:
            raise ConfigError(
                f"{folder}: {len(left)} batches of {self._endpoint.model!r} were paid for, and "
                "their results not used yet",
                hint="continue with options.transport: batch, or delete the folder to pay again",
            )

    def settle(self) -> None:
        """Forget batches whose answers were handed out."""
        if self._batches is not None:
            self._batches.settle()

    def pending(self) -> str:
        """What batches are waited for, and which server is down or throttles; empty when none."""
        batches = "" if self._batches is None else self._batches.pending()
        return ", ".join(filter(None, (batches, tell_trouble(self.stats()))))

    @property
    def learned(self) -> Mapping[str, Any]:
        """What the server turned out not to take, and what is done instead, by field.

        JSON-compatible; part of no key. It grows while calls are made.
        """
        return self._dialect.learned

    def take_wasted(self) -> Usage | None:
        """Return the tokens of replies that could not be used since this was last asked."""
        return self._endpoint.take_wasted()

    def stats(self) -> tuple[LaneStats, ...]:
        """Return what the lanes to this model do, shared with other engines that ask it."""
        return self._endpoint.stats()

    def price(self, usage: Usage) -> float | None:
        """Return what these tokens cost, in US dollars or as configured; None when unknown."""
        endpoint, options = self._endpoint, self._options
        price = price_of(endpoint.model, usage, base_url=endpoint.urls[0], price=options.price)
        if price is not None and self._batches is not None:
            price *= options.batch.price_factor
        return price

    async def _generate(self, request: Generate) -> list[Reply]:
        seeds = request.seeds
        replies: list[Reply] = []
        together = len(seeds) > 1 and self._dialect.takes("n")
        if together:
            drawn = await self._draw(request, seeds)
            if not isinstance(drawn, Rejected):
                replies = drawn
                if len(replies) < len(seeds) and self._dialect.takes("n"):
                    self._dialect.note("n", OMITTED, "it gave fewer samples than were asked for")
                self._many = self._many or self._dialect.takes("n")
            else:
                problem = await self._error_for(drawn, request)
                known = problem.hint or not isinstance(problem, CallFailed)
                if self._many or known or drawn.status not in (400, 422):
                    raise problem
                # Some refuse n > 1 without a word; if it is the prompt, they say so again below.
        rest = seeds[len(replies) :]
        if rest:
            replies += await self._draw_singly(request, rest, list(replies))
        if rest and together and self._dialect.takes("n"):
            self._dialect.note("n", OMITTED, "it took the samples one by one")
        return replies

    async def _draw_singly(
        self, request: Generate, seeds: Sequence[int], paid: list[Reply]
    ) -> list[Reply]:
        """Draw the samples by themselves; where one fails, book what all others cost."""
        try:
            drawn: list[Reply] = []
            failed: list[CallFailed] = []
            for one in await run_together([self._draw_one(request, seed, paid) for seed in seeds]):
                if isinstance(one, CallFailed):
                    failed.append(one)
                else:
                    drawn += one
            if failed:
                raise failed[0]
            return drawn
        except BaseException:
            for reply in paid:
                self._endpoint.note_unused(reply.usage)
            raise

    async def _draw_one(
        self, request: Generate, seed: int, paid: list[Reply]
    ) -> list[Reply] | CallFailed:
        """Draw one sample; a call that fails alone does not end the others under way."""
        try:
            drawn = await self._draw(request, (seed,))
        except CallFailed as problem:
            return problem
        if not isinstance(drawn, Rejected):
            paid += drawn
            return drawn
        error = await self._error_for(drawn, request)
        if isinstance(error, CallFailed):
            return error
        raise error

    async def _draw(self, request: Generate, seeds: Sequence[int]) -> list[Reply] | Rejected:
        body, unwrap = await self._body(request, seeds)

        def read(payload: dict[str, Any]) -> list[Reply]:
            stop = () if self._takes_stop else request.sampling.stop
            replies = wire.read_generate(payload, unwrap=unwrap, stop=stop)
            if len(replies) > len(seeds):
                raise BadReply(f"{len(replies)} choices came back for {len(seeds)}", final=True)
            return replies

        tokens = len(seeds) * request.sampling.max_tokens
        sent = await self._chat.ask(body, read, tokens=tokens, seeds=seeds)
        if isinstance(sent, Rejected) and rejections.is_filtered(sent):
            return wire.refusal(len(seeds))
        return sent

    async def _body(self, request: Generate, seeds: Sequence[int]) -> tuple[dict[str, Any], bool]:
        """Return what asks for samples, and whether their text comes in an envelope."""
        constrained = bool(request.choices or request.schema)
        structured = await self._structured(request) if constrained else "none"
        body = wire.generate_body(
            request,
            seeds,
            structured=structured,
            max_tokens_field=self._dialect.max_tokens_field,
        )
        if len(seeds) > 1:
            body["n"] = len(seeds)
        return body, bool(request.choices) and structured == "response_format"

    async def _error_for(self, rejected: Rejected, request: Generate) -> EngineError:
        body, _ = await self._body(request, request.seeds[:1])
        return await self._chat.error_for(rejected, body)

    @property
    def _takes_stop(self) -> bool:
        return self._options.api == "chat" and self._dialect.takes("stop")

    async def _structured(self, request: Generate) -> wire.Structured:
        chosen = self._options.structured
        if chosen != "auto":
            return chosen
        # vLLM constrains a reply to bare choices; response_format needs an object around them.
        if request.choices and await self._endpoint.is_vllm():
            return "structured_outputs"
        return "response_format"

    async def _score(self, request: Score) -> Reply:
        if self._options.score != "vllm":
            raise EngineMissing(
                "this engine cannot score continuations", hint="set options.score to vllm"
            )
        return await score_continuation(self._endpoint, request, self._options.extra_body)

    def _check(self, request: Generate | Label) -> None:
        """Refuse what the options say the server cannot do, before anything is sent."""
        if request.stub and not self._options.prefill:
            raise EngineMissing(
                "this engine cannot start the assistant's reply (stub)",
                hint="set options.prefill to true if the server supports continue_final_message",
            )
        if isinstance(request, Label) and self._options.labels == "none":
            raise EngineMissing(
                f"{self._endpoint.urls[0]} gives no log-probabilities (options.labels: none)",
                hint=rejections.NO_LABELS_HINT,
            )
        constrained = isinstance(request, Generate) and bool(request.choices or request.schema)
        if constrained and self._options.structured == "none":
            raise EngineMissing(
                "this engine cannot constrain replies", hint="set options.structured to auto"
            )

    @property
    def _prefix(self) -> str:
        """What tells this engine's batches from those of others in a folder."""
        return content_id("engine", self.identity)[:12]


def _max_tokens_field(options: OpenAIOptions, endpoint: Endpoint) -> str:
    if options.max_tokens_field != "auto":
        return options.max_tokens_field
    return "max_completion_tokens" if OPENAI_URL in endpoint.urls else "max_tokens"


def _capabilities(options: OpenAIOptions, *, samples: bool) -> frozenset[Capability]:
    offered = {
        Capability.GENERATE: True,
        Capability.SAMPLES: samples,
        Capability.TOP_LOGPROBS: options.labels != "none",
        Capability.LABEL_LOGPROBS: options.labels == "logprob_token_ids",
        Capability.SCORE: options.score == "vllm",
        Capability.STRUCTURED: options.structured != "none",
        Capability.PREFILL: options.prefill,
    }
    return frozenset(one for one, can in offered.items() if can)
