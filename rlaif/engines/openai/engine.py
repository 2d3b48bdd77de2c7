"""Engine ``openai``: any server that speaks OpenAI's chat completions, hosted or one's own.

What a request looks like on the wire is in `rlaif.engines.openai.wire` and
`rlaif.engines.openai.vllm_extensions`, how it gets to the server and back in
`rlaif.engines.openai.endpoint`. This file joins them, and finds out once per engine which of
several ways a server knows.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rlaif.engines.ask import run_together
from rlaif.engines.openai import rejections, vllm_extensions, wire
from rlaif.engines.openai.batch.client import BatchClient
from rlaif.engines.openai.batch.folders import load
from rlaif.engines.openai.endpoint import Endpoint
from rlaif.engines.openai.options import (
    OPENAI_URL,
    OpenAIOptions,
    read_headers,
    read_key,
    read_options,
    read_urls,
)
from rlaif.engines.openai.prices import price_of
from rlaif.engines.protocol import Capability, Generate, Label, Reply, Request, Score, Usage
from rlaif.engines.traffic.lanes import LaneStats, tell_trouble
from rlaif.engines.traffic.outcomes import BadReply, Refused
from rlaif.engines.traffic.transport import check_installed
from rlaif.errors import CallFailed, ConfigError, EngineMissing
from rlaif.records import content_id

T = TypeVar("T")


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
        base_url: Such as ``http://127.0.0.1:8000/v1``; OpenAI itself when absent.
        api_key_env: Name of the environment variable that holds the key. Without one a dummy is
            sent, which self-hosted servers ignore.
        options: See `OpenAIOptions`.

    Raises:
        ConfigError: A wrong option or address.
        EngineMissing: No key where one is needed, or the extra is not installed.
    """
    settings = read_options(options or {})
    urls = read_urls(base_url, settings.base_urls)
    key = read_key(api_key_env, urls)
    headers = read_headers(settings.headers_env, key)
    check_installed(settings.transport)
    endpoint = Endpoint(model, urls, headers=headers, key_name=api_key_env, options=settings)
    return OpenAIEngine(endpoint, settings)


class OpenAIEngine:
    """A model behind an OpenAI-compatible server. Build with `build_openai_engine`."""

    def __init__(self, endpoint: Endpoint, options: OpenAIOptions) -> None:
        self._endpoint = endpoint
        self._options = options
        # True and False are certain, None is to be found out.
        self._many: bool | None = None if options.supports_n else False
        self._exact: bool | None = {"logprob_token_ids": True, "top_logprobs": False}.get(
            options.labels
        )
        self._batches: BatchClient | None = None
        if options.transport == "batch":
            self._exact = False  # needs a server of one's own, which has no use for batches
            self._batches = BatchClient(
                endpoint, options.batch, prefix=self._prefix, max_attempts=options.max_attempts
            )
        self._ids: dict[str, tuple[int, ...]] = {}
        self._learning = asyncio.Lock()

    def __repr__(self) -> str:
        return f"OpenAIEngine({self._endpoint!r})"

    @property
    def identity(self) -> Mapping[str, Any]:
        """What can change an answer. No secrets, no speed."""
        options, urls = self._options, self._endpoint.urls
        where: dict[str, Any] = {"base_url": urls[0] if len(urls) == 1 else list(urls)}
        if options.served_as is not None:
            where = {"served_as": options.served_as}
        return {
            "engine": "openai",
            "model": self._endpoint.model,
            **where,
            "extra_body": options.extra_body,
            "labels": options.labels,
            "top_logprobs": options.top_logprobs,
            "structured": options.structured,
        }

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the options promise; whether the server keeps it shows at the first call."""
        options = self._options
        offered = {
            Capability.GENERATE: True,
            Capability.SAMPLES: options.supports_n,
            Capability.TOP_LOGPROBS: True,
            Capability.LABEL_LOGPROBS: options.labels == "logprob_token_ids",
            Capability.SCORE: options.score == "vllm",
            Capability.STRUCTURED: options.structured != "none",
            Capability.PREFILL: options.prefill,
        }
        return frozenset(one for one, can in offered.items() if can)

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
                return [await self._label(request)]
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

    def keep_state(self, folder: Path) -> None:
        """Keep batches in this folder, and take up those that are there.

        Raises:
            ConfigError: There are some, and the transport is another one now.
        """
        if self._batches is not None:
            self._batches.keep_in(folder)
            return
        left = [one.name for one in load(folder, self._prefix) if one.known.results is None]
        if left:
            raise ConfigError(
                f"{folder}: {len(left)} batches of {self._endpoint.model!r} were paid for, and "
                "their results not used yet",
                hint="go on with options.transport: batch, or delete the folder to pay again",
            )

    def settle(self) -> None:
        """Forget batches whose answers were handed out."""
        if self._batches is not None:
            self._batches.settle()

    def pending(self) -> str:
        """What batches are waited for, and which server is down or throttles; empty when none."""
        batches = "" if self._batches is None else self._batches.pending()
        return ", ".join(filter(None, (batches, tell_trouble(self.stats()))))

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
        if len(seeds) > 1 and self._many is not False:
            drawn = await self._draw(request, seeds)
            if not isinstance(drawn, Refused):
                replies = drawn
                self._many = len(replies) == len(seeds)  # some servers take n and ignore it
            elif self._many or drawn.status not in (400, 422):
                raise await self._endpoint.error_for(drawn)
            # else: some refuse n > 1; if it is the prompt they refuse, they say so again below.
        rest = seeds[len(replies) :]
        for one in await run_together([self._draw_one(request, seed) for seed in rest]):
            replies += one
        if rest and len(seeds) > 1:
            self._many = False
        return replies

    async def _draw_one(self, request: Generate, seed: int) -> list[Reply]:
        drawn = await self._draw(request, (seed,))
        if isinstance(drawn, Refused):
            raise await self._endpoint.error_for(drawn)
        return drawn

    async def _draw(self, request: Generate, seeds: Sequence[int]) -> list[Reply] | Refused:
        structured = await self._structured(request)
        body = wire.generate_body(
            request,
            seeds if self._options.supports_seed else (),
            structured=structured,
            max_tokens_field=self._max_tokens_field,
        )
        if len(seeds) > 1:
            body["n"] = len(seeds)
        unwrap = bool(request.choices) and structured == "response_format"

        def read(payload: dict[str, Any]) -> list[Reply]:
            replies = wire.read_generate(payload, unwrap=unwrap)
            if len(replies) > len(seeds):
                raise BadReply(f"{len(replies)} choices came back for {len(seeds)}")
            return replies

        tokens = len(seeds) * request.sampling.max_tokens
        sent = await self._chat(body, read, tokens=tokens, seeds=seeds)
        if isinstance(sent, Refused) and rejections.is_filtered(sent):
            return wire.refusal(len(seeds))
        return sent

    async def _chat(
        self,
        body: dict[str, Any],
        read: Callable[[dict[str, Any]], T],
        *,
        tokens: int,
        seeds: Sequence[int] = (),
    ) -> T | Refused:
        if self._batches is not None:
            return await self._batches.chat(body, read, seeds=seeds)
        return await self._endpoint.chat(body, read, tokens=tokens)

    async def _structured(self, request: Generate) -> wire.Structured:
        chosen = self._options.structured
        if chosen != "auto":
            return chosen
        # vLLM constrains a reply to bare choices; response_format needs an object around them.
        if request.choices and await self._endpoint.is_vllm():
            return "structured_outputs"
        return "response_format"

    async def _label(self, request: Label) -> Reply:
        if self._exact is None and not await self._endpoint.is_vllm():
            self._exact = False
        if self._exact is not False:
            reply = await self._label_exactly(request)
            if reply is not None:
                self._exact = True
                return reply
            if self._options.labels == "logprob_token_ids":
                raise EngineMissing(
                    f"{self._endpoint.urls[0]} does not know logprob_token_ids",
                    hint="set options.labels to auto or top_logprobs",
                )
        body = wire.label_body(
            request,
            max_tokens_field=self._max_tokens_field,
            top_logprobs=self._options.top_logprobs,
        )
        sent = await self._chat(
            body, lambda payload: wire.read_label(payload, request.labels), tokens=1
        )
        if isinstance(sent, Refused):
            return await self._refused_label(sent, request)
        if self._exact is None:
            self._exact = False  # a call that only succeeds the plain way tells how to go on
        return sent

    async def _label_exactly(self, request: Label) -> Reply | None:
        """Return None when the server does not offer it and another way may be tried."""
        ids = await self._label_ids(request.labels)
        if ids is None:
            return None
        body = vllm_extensions.exact_label_body(request, ids, self._max_tokens_field)
        sent = await self._chat(
            body, lambda payload: (wire.read_label_ids(payload, ids),), tokens=1
        )
        if isinstance(sent, Refused):
            if self._exact is None and sent.status in (400, 422):
                return None
            return await self._refused_label(sent, request)
        return sent[0]

    async def _refused_label(self, refused: Refused, request: Label) -> Reply:
        if rejections.is_filtered(refused):
            return wire.refusal(1, len(request.labels))[0]
        raise await self._endpoint.error_for(refused)

    async def _label_ids(self, labels: Sequence[str]) -> list[tuple[int, ...]] | None:
        """Return the token ids of each label, asked for once; None when they cannot be had."""
        if not all(label in self._ids for label in labels):
            async with self._learning:
                if not await self._learn_ids([one for one in labels if one not in self._ids]):
                    return None
        for label in labels:
            if not self._ids[label]:
                raise EngineMissing(
                    f"the label {label!r} is not a single token of model {self._endpoint.model!r}",
                    hint="choose labels of one letter or one short word",
                )
        return [self._ids[label] for label in labels]

    async def _learn_ids(self, labels: Sequence[str]) -> bool:
        """Ask how labels are tokenized; return False when the server does not say."""
        tokens: dict[str, list[int]] = {}
        texts = {text for one in labels for text in vllm_extensions.spellings(one)}
        for text in sorted(texts):
            sent = await self._tokenize(vllm_extensions.tokenize_body(text))
            if isinstance(sent, Refused):
                return False
            tokens[text] = sent
        self._ids.update({one: vllm_extensions.ids_of_label(tokens, one) for one in labels})
        return True

    async def _score(self, request: Score) -> Reply:
        if self._options.score != "vllm":
            raise EngineMissing(
                "this engine cannot score continuations", hint="set options.score to vllm"
            )
        prompt, continuation = await run_together(
            [
                self._tokenize_surely(
                    vllm_extensions.prompt_body(request, self._options.extra_body)
                ),
                self._tokenize_surely(vllm_extensions.tokenize_body(request.continuation)),
            ]
        )
        if not continuation:
            raise CallFailed("the continuation is empty: there is nothing to score", kind="empty")
        sent = await self._endpoint.send(
            "/completions",
            {"model": self._endpoint.model, **vllm_extensions.score_body(prompt, continuation)},
            lambda payload: vllm_extensions.read_score(payload, continuation),
            tokens=1,
        )
        if isinstance(sent, Refused):
            raise await self._endpoint.error_for(sent)
        self._endpoint.worked()
        return sent

    async def _tokenize(self, body: dict[str, Any]) -> list[int] | Refused:
        return await self._endpoint.send(
            "//tokenize", {"model": self._endpoint.model, **body}, vllm_extensions.read_tokens
        )

    async def _tokenize_surely(self, body: dict[str, Any]) -> list[int]:
        sent = await self._tokenize(body)
        if isinstance(sent, Refused):
            if sent.status == 404 and self._endpoint.model in await self._endpoint.models():
                raise EngineMissing(
                    f"{self._endpoint.urls[0]} has no /tokenize, which scoring needs",
                    hint="serve the model with vLLM, or choose a method that needs no scores",
                )
            raise await self._endpoint.error_for(sent)
        return sent

    def _check(self, request: Generate | Label) -> None:
        """Refuse what the options say the server cannot do, before anything is sent."""
        if request.stub and not self._options.prefill:
            raise EngineMissing(
                "this engine cannot start the assistant's reply (stub)",
                hint="set options.prefill to true if the server knows continue_final_message",
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

    @property
    def _max_tokens_field(self) -> str:
        field = self._options.max_tokens_field
        if field != "auto":
            return field
        return "max_completion_tokens" if OPENAI_URL in self._endpoint.urls else "max_tokens"
