"""Options of the openai engine: what stands under ``options:``, which address, which key."""

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlaif.config import Settings, load_config
from rlaif.config.explain import spelled
from rlaif.engines.openai.providers import PRESETS, Provider
from rlaif.engines.traffic.lanes import Bounds
from rlaif.errors import ConfigError, EngineMissing

OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "EMPTY"
"""Sent where no key is configured; servers that need none ignore it."""


_KEY_HEADERS = {"api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key"}


_SECRET_NAME = re.compile(
    r"(^|[-_.])(api)?(key|token|secret|password|passwd|pwd|auth|authorization|sig|signature"
    r"|credential|code)s?$",
    re.IGNORECASE,
)
"""Names in a query whose values are secrets."""


class PriceOptions(Settings):
    """What a million tokens cost, in the currency the user counts in."""

    input_per_million: float = Field(ge=0, allow_inf_nan=False)
    output_per_million: float = Field(ge=0, allow_inf_nan=False)
    cached_input_per_million: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Default: cached input costs as much as other."
    )


class BatchOptions(Settings):
    """How requests are gathered into batches, with ``transport: batch``."""

    max_requests: int = Field(50_000, ge=1, description="Per batch; OpenAI allows 50,000.")
    max_bytes: int = Field(
        200_000_000, ge=1, description="Per batch; OpenAI allows 200 MB, Together 100 MB."
    )
    quiet_s: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="Send when no request came for this long."
    )
    max_wait_s: float = Field(
        300.0, gt=0, allow_inf_nan=False, description="Send at the latest after this long."
    )
    poll_s: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="First pause between looks at a batch."
    )
    max_poll_s: float = Field(120.0, gt=0, allow_inf_nan=False, description="Pauses grow to this.")
    completion_window: str = "24h"
    price_factor: float = Field(
        0.5, gt=0, le=1, description="What a batch costs, as a share of the usual price."
    )


class OpenAIOptions(Settings):
    """Everything below ``options:`` of an engine ``openai``."""

    transport: Literal["sdk", "fast", "batch"] = Field(
        "sdk",
        description="sdk: the official client. fast: aiohttp alone, for your own servers. "
        "batch: files of requests that are answered within a day, at half the price.",
    )
    batch: BatchOptions = BatchOptions()
    base_urls: tuple[str, ...] = Field(
        (), description="Several servers with the same model; calls go to the least loaded."
    )
    served_as: Annotated[str, spelled(r"\S(.*\S)?", "no white space around it")] | None = Field(
        None,
        max_length=200,
        description="Stands for the addresses in every record's identity, so that they may change. "
        "You vouch that all servers under this name have the same weights.",
    )
    timeout_s: float = Field(600.0, gt=0, allow_inf_nan=False)
    connect_timeout_s: float = Field(10.0, gt=0, allow_inf_nan=False)
    max_attempts: int = Field(5, ge=1, description="Tries of one call; 429 and 503 do not count.")
    max_concurrency: int | None = Field(
        None, ge=1, description="Default: 512 for a self-hosted server, 200 for any other."
    )
    min_concurrency: int = Field(10, ge=1)
    start_concurrency: int = Field(20, ge=1)
    requests_per_minute: float | None = Field(None, gt=0, allow_inf_nan=False)
    tokens_per_minute: float | None = Field(None, gt=0, allow_inf_nan=False)
    max_outage_s: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="Stop when the server is down for this long."
    )
    max_throttle_s: float = Field(
        600.0, gt=0, allow_inf_nan=False, description="Stop after this long of nothing but 429/503."
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Fields added to every chat completion."
    )
    headers_env: dict[str, str] = Field(
        default_factory=dict, description="Header name to the environment variable with its value."
    )
    max_reply_bytes: int = Field(
        64 * 2**20, ge=1024, le=2**40, description="Of one reply, unpacked; more is a failure."
    )
    provider: Provider | None = Field(
        None, description="Who serves: sets the options that fit; what you set yourself wins."
    )
    api: Literal["chat", "responses"] = Field(
        "chat",
        description="responses: OpenAI's Responses API, for models without chat completions.",
    )
    system: Literal["auto", "send", "fold"] = Field(
        "auto",
        description="fold: the system text stands at the head of the first user turn. auto: only "
        "where the server refuses a system role.",
    )
    omit: tuple[str, ...] = Field((), description="Fields of a request that are never sent.")
    rename: dict[str, str] = Field(
        default_factory=dict, description="Fields sent by another name, as {seed: random_seed}."
    )
    query: dict[str, str] = Field(
        default_factory=dict, description="Added to every address, as {api-version: 2024-10-21}."
    )
    query_env: dict[str, str] = Field(
        default_factory=dict,
        description="The same for secrets: name to the environment variable with its value.",
    )
    key_header: str = Field(
        "Authorization",
        pattern=r"^[A-Za-z][A-Za-z0-9-]*$",
        description="The header that carries the key; any but Authorization carries it bare.",
    )
    labels: Literal["auto", "logprob_token_ids", "top_logprobs", "none"] = Field(
        "auto", description="none: the server gives no log-probabilities; judges read words."
    )
    top_logprobs: int = Field(
        20, ge=1, le=10_000, description="Candidates to ask for; llama.cpp is asked for 200."
    )
    structured: Literal["auto", "response_format", "structured_outputs", "none"] = "auto"
    supports_n: bool = Field(True, description="Whether one call may draw several samples.")
    supports_seed: bool = True
    prefill: bool = Field(
        False, description="The server supports continue_final_message (vLLM, SGLang)."
    )
    score: Literal["none", "vllm"] = Field(
        "none", description="vllm: score continuations through prompt_logprobs."
    )
    max_tokens_field: Literal["auto", "max_tokens", "max_completion_tokens"] = Field(
        "auto", description="auto: max_completion_tokens at OpenAI, max_tokens elsewhere."
    )
    price: PriceOptions | None = Field(None, description="Default: known list prices, if any.")

    INERT: ClassVar = frozenset(
        {
            "batch",
            "base_urls",
            "connect_timeout_s",
            "headers_env",
            "max_attempts",
            "max_concurrency",
            "max_outage_s",
            "max_reply_bytes",
            "max_throttle_s",
            "min_concurrency",
            "price",
            "query_env",
            "requests_per_minute",
            "start_concurrency",
            "timeout_s",
            "tokens_per_minute",
            "transport",
        }
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = PRESETS.get(str(given.get("provider")))
        return given if preset is None else {**preset.options, **given}

    @model_validator(mode="after")
    def _fields_are_ours(self) -> "OpenAIOptions":
        ours = {"model", "messages", "n", "stream", "logprobs", "top_logprobs"}
        taken = sorted(ours & self.extra_body.keys())
        if taken:
            raise ValueError(f"extra_body may not set {', '.join(taken)}")
        for name in ("model", "messages", "input", "stream"):
            if name in self.omit or name in self.rename or name in self.rename.values():
                raise ValueError(f"omit and rename leave {name} alone")
        return self

    @model_validator(mode="after")
    def _query_is_not_secret(self) -> "OpenAIOptions":
        secret = [name for name in self.query if _SECRET_NAME.search(name)]
        if secret:  # the value is not shown either
            raise ValueError(
                f"query.{secret[0]} looks like a secret, which files must not hold: name the "
                "environment variable with its value under query_env"
            )
        return self

    @model_validator(mode="after")
    def _responses_has_other_fields(self) -> "OpenAIOptions":
        if self.api == "responses" and self.transport == "batch":
            raise ValueError("api: responses does not go with transport: batch")
        if self.api == "responses" and (self.prefill or self.labels == "logprob_token_ids"):
            raise ValueError("api: responses supports neither prefill nor logprob_token_ids")
        return self

    @model_validator(mode="after")
    def _batches_are_whole(self) -> "OpenAIOptions":
        if self.transport != "batch":
            if "batch" in self.model_fields_set:
                raise ValueError("batch has no effect without transport: batch")
            return self
        if len(self.base_urls) > 1:
            raise ValueError("transport: batch goes to one server, base_urls names several")
        if self.score == "vllm" or self.labels == "logprob_token_ids":
            raise ValueError(
                "transport: batch can neither score nor ask for exact labels "
                "(score: vllm, labels: logprob_token_ids)"
            )
        return self

    def bounds(self, urls: Sequence[str]) -> Bounds:
        """Return what the lanes to these addresses may do."""
        default = 512 if all(is_self_hosted(url) for url in urls) else 200
        return Bounds(
            start=self.start_concurrency,
            minimum=self.min_concurrency,
            maximum=self.max_concurrency or default,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            max_outage_s=self.max_outage_s,
            max_throttle_s=self.max_throttle_s,
        )


class _Holder(Settings):
    options: OpenAIOptions = OpenAIOptions()


def read_options(options: Mapping[str, Any]) -> OpenAIOptions:
    """Check the options; those of a provider stand where none are given.

    Raises:
        ConfigError: Names each wrong key as ``options.…`` and the nearest valid one.
    """
    return load_config(_Holder, {"options": dict(options)}).options


def read_urls(
    base_url: str | None, base_urls: Sequence[str], provider: str | None = None
) -> tuple[str, ...]:
    """Return the addresses, normalised and sorted, so that their order changes nothing.

    Raises:
        ConfigError: Both or no kind given twice, not http(s), or with credentials or a query; or
            none for a provider without a single public address.
    """
    if base_url is not None and base_urls:
        raise ConfigError("base_url and options.base_urls exclude each other: give one of them")
    usual = PRESETS[provider].base_url if provider else OPENAI_URL
    if base_url is None and not base_urls and not usual:
        raise ConfigError(
            f"provider: {provider} needs a base_url", hint=PRESETS[provider or ""].address
        )
    given = base_urls or (usual if base_url is None else base_url,)
    return tuple(sorted({_normal(url) for url in given}))


def read_key(api_key_env: str | None, urls: Sequence[str]) -> str:
    """Return the key from the environment, or a dummy for a server that was given none.

    Raises:
        EngineMissing: Names the variable, never its value.
    """
    if api_key_env is None:
        hosted = {preset.base_url: name for name, preset in PRESETS.items() if preset.base_url}
        for url in urls:
            if url in hosted:
                name = f"{hosted[url].upper()}_API_KEY"
                raise EngineMissing(
                    f"{url} needs a key",
                    hint=f"name the environment variable that holds it: api_key_env: {name}",
                )
        return NO_KEY
    return _from_environment(api_key_env, "api_key_env")


def read_headers(
    headers_env: Mapping[str, str], key: str, key_header: str = "Authorization"
) -> dict[str, str]:
    """Return the headers of every request; the configured ones win over ours.

    The dummy key is left out where a header of the user's carries the real one.

    Raises:
        EngineMissing: Names a variable that is not set.
    """
    bearer = key_header.lower() == "authorization"
    headers = {key_header: f"Bearer {key}" if bearer else key, "Content-Type": "application/json"}
    if key == NO_KEY and _KEY_HEADERS & {name.lower() for name in headers_env}:
        del headers[key_header]
    for name, variable in headers_env.items():
        for ours in list(headers):
            if ours.lower() == name.lower():
                del headers[ours]
        headers[name] = _from_environment(variable, f"options.headers_env.{name}")
    return headers


def read_query(query: Mapping[str, str], query_env: Mapping[str, str]) -> dict[str, str]:
    """Return what is added to every address.

    Raises:
        EngineMissing: Names a variable that is not set.
    """
    secret = {
        name: _from_environment(variable, f"options.query_env.{name}")
        for name, variable in query_env.items()
    }
    return {**query, **secret}


def is_self_hosted(url: str) -> bool:
    """Return whether an address looks like one's own machine or network."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        own = (".local", ".localhost", ".internal", ".lan", ".svc", ".home.arpa")
        return "." not in host or host.endswith(own)
    return address.is_loopback or address.is_private or address.is_link_local


def _from_environment(variable: str, where: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise EngineMissing(
            f"the environment variable {variable} is not set ({where})",
            hint=f"export {variable}=…, or name another variable",
        )
    if not (value.isascii() and value.isprintable()):
        raise EngineMissing(
            f"the environment variable {variable} holds characters that are invalid in a header "
            f"({where})",
            hint="check that it holds the key and nothing else",
        )
    return value


def _shown(url: str) -> str:
    """Return an address without what may be secret in it."""
    return re.sub(r"[?#].*", "?…", re.sub(r"(//)?[^/]*@", r"\1…@", url, count=1), flags=re.DOTALL)


def _normal(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"base_url {_shown(url)!r:.80} is not an address") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        # The address is part of every record's identity: nothing secret may stand in it, and what
        # is wrong with it is not shown either.
        raise ConfigError(
            f"a base_url at {parts.hostname} holds credentials, a query or a fragment",
            hint="give secrets through api_key_env or options.headers_env, and what is not secret "
            "through options.query, as {api-version: 2024-10-21}",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"base_url {_shown(url)!r:.80} is not an address",
            hint="it looks like http://127.0.0.1:8000/v1",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    tail = "" if port in (None, usual) else f":{port}"
    return f"{parts.scheme}://{host}{tail}{parts.path.rstrip('/')}"
