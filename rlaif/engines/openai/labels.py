"""Labels: how likely each label is as the first token of a reply, exactly or among the likeliest.

vLLM gives the exact values of token ids that are asked for; other servers report their most likely
tokens. Which of the two a server knows is found out once.
"""

import asyncio
from collections.abc import Sequence

from rlaif.engines.openai import label_replies, rejections, vllm_extensions, wire
from rlaif.engines.openai.chat import Chat
from rlaif.engines.openai.dialect import OMITTED, Body, Dialect
from rlaif.engines.openai.endpoint import VLLM, Endpoint
from rlaif.engines.openai.options import OpenAIOptions
from rlaif.engines.protocol import Label, Reply
from rlaif.engines.traffic.outcomes import Rejected
from rlaif.errors import CallFailed, EngineError, EngineMissing

LLAMA_CPP = "llamacpp"
LLAMA_CPP_TOP = 200
"""How many candidates llama.cpp's server is asked for: it allows as many as one likes."""


class Labels:
    """Asks for labels.

    Args:
        endpoint: The server.
        chat: Asks it.
        dialect: What it takes.
        options: How labels are to be asked for.
    """

    def __init__(
        self, endpoint: Endpoint, chat: Chat, dialect: Dialect, options: OpenAIOptions
    ) -> None:
        self._endpoint = endpoint
        self._chat = chat
        self._dialect = dialect
        self._options = options
        # True and False are certain, None is to be found out. Exact values need a server of one's
        # own, which has no use for batches.
        known = {"logprob_token_ids": True, "top_logprobs": False}
        self._exact: bool | None = known.get(options.labels)
        if options.transport == "batch" or options.api == "responses":
            self._exact = False
        self._top: int | None = None
        self._ids: dict[str, tuple[int, ...]] = {}
        self._learning = asyncio.Lock()
        self._worked = False

    @property
    def how(self) -> str:
        """How labels are read, as far as is known: exactly, or among how many candidates."""
        if self._options.labels == "none":
            return "none"
        if self._exact:
            return "exact"
        top = self._dialect.learned.get("top_logprobs", self._top or self._options.top_logprobs)
        return f"among {top} candidates"

    async def ask(self, request: Label) -> Reply:
        """Answer a request for labels."""
        exact = self._exact
        if exact is None:
            served = await self._endpoint.models()
            exact = served is not None and VLLM in served.values()
            if served is not None and not exact:
                self._exact = False
        if exact:
            reply = await self._exactly(request)
            if reply is not None:
                self._exact = self._worked = True
                return reply
            if self._options.labels == "logprob_token_ids":
                raise EngineMissing(
                    f"{self._endpoint.urls[0]} does not support logprob_token_ids",
                    hint="set options.labels to auto or top_logprobs",
                )
        body = wire.label_body(
            request,
            max_tokens_field=self._dialect.max_tokens_field,
            top_logprobs=self._top or await self._choose_top(),
        )
        sent = await self._chat.ask(
            body, lambda payload: label_replies.read_label(payload, request.labels), tokens=1
        )
        if isinstance(sent, Rejected):
            return await self._rejected(sent, request, body)
        self._worked = True
        if exact and self._exact is None:
            self._exact = False  # a call that only succeeds the plain way says how to continue
            self._dialect.learned["logprob_token_ids"] = OMITTED
        return sent

    async def _choose_top(self) -> int:
        options = self._options
        if options.labels != "auto" or "top_logprobs" in options.model_fields_set:
            self._top = options.top_logprobs
            return self._top
        served = await self._endpoint.models()
        if served is None:
            return options.top_logprobs  # asked again at the next call
        if LLAMA_CPP in served.values():
            self._dialect.learned["top_logprobs"] = LLAMA_CPP_TOP
            self._top = LLAMA_CPP_TOP
        else:
            self._top = options.top_logprobs
        return self._top

    async def _exactly(self, request: Label) -> Reply | None:
        """Return None when the server does not offer it and another way may be tried."""
        ids = await self._label_ids(request.labels)
        if ids is None:
            return None
        body = vllm_extensions.exact_label_body(request, ids, self._dialect.max_tokens_field)
        sent = await self._chat.ask(
            body, lambda payload: (label_replies.read_label_ids(payload, ids),), tokens=1
        )
        if isinstance(sent, Rejected):
            if self._exact is None and sent.status in (400, 422):
                return None
            return await self._rejected(sent, request, body)
        return sent[0]

    async def _rejected(self, rejected: Rejected, request: Label, body: Body) -> Reply:
        if rejections.is_filtered(rejected):
            return wire.refusal(1, len(request.labels))[0]
        problem: EngineError = await self._chat.error_for(rejected, body)
        if self._worked and isinstance(problem, EngineMissing):  # it has given some before
            problem = CallFailed(problem.message, kind="no-logprobs", hint=problem.hint)
        raise problem

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
            sent = await self._endpoint.tokenize(vllm_extensions.tokenize_body(text))
            if isinstance(sent, Rejected):
                return False
            tokens[text] = sent
        self._ids.update({one: vllm_extensions.ids_of_label(tokens, one) for one in labels})
        return True
