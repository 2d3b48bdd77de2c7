"""Engine ``vllm``: vLLM's asynchronous engine, without a server between.

What a prompt looks like in tokens, which tokens say a label and what ends a reply is decided by the
same code as in the transformers engine (`rlaif.engines.local.chat`), so both ask the same question.
Every seed is its own request: vLLM's ``n`` has one seed for all samples. They share the prompt
through the prefix cache.
"""

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from transformers import AutoConfig, AutoTokenizer

from rlaif.engines.ask import run_together
from rlaif.engines.local.chat import Chat
from rlaif.engines.local.load import cannot_load, name_of, set_template
from rlaif.engines.protocol import (
    Capability,
    Generate,
    Label,
    Reply,
    Request,
    Score,
    Usage,
    log_sum,
)
from rlaif.engines.turns import split_reasoning
from rlaif.engines.vllm.host import VllmHost
from rlaif.engines.vllm.options import (
    VllmOptions,
    engine_arguments,
    find_model,
    read_options,
    weights_format,
)
from rlaif.errors import CallFailed, ConfigError, EngineMissing
from rlaif.models import load_pretrained, quiet_transformers

_OURS = frozenset(
    {
        *("n", "seed", "temperature", "top_p", "max_tokens", "stop", "stop_token_ids"),
        *("logprobs", "prompt_logprobs", "logprob_token_ids", "structured_outputs"),
        *("output_kind", "detokenize"),
    }
)


def build_vllm_engine(
    *, model: str, revision: str | None = None, options: Mapping[str, Any] | None = None
) -> "VllmEngine":
    """Load a model into vLLM.

    Args:
        model: A shipped name, a folder, a GGUF file, or a hub id.
        revision: Of a hub id: branch, tag or commit.
        options: See `VllmOptions`.

    Raises:
        EngineMissing: No such model, none with a chat template, or a vLLM that is too old.
        InputError: No such folder.
        ConfigError: A wrong option.
        EngineError: vLLM cannot run the model; its own words are on stderr.
    """
    settings = read_options(options or {})
    _quiet()
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    if "logprob_token_ids" not in SamplingParams.__struct_fields__:
        raise EngineMissing(
            "this vLLM does not return the log-probabilities of chosen tokens",
            hint="pip install --upgrade vllm, or serve it and use the engine openai",
        )
    place = find_model(model)
    tokenizer, config = _tokenizer(model, place, revision, settings)
    arguments = engine_arguments(settings, cpu=current_platform.is_cpu()) | weights_format(place)
    arguments |= settings.engine_args
    arguments |= {"model": place, "disable_log_stats": True}
    if revision is not None:
        arguments["revision"] = revision
    try:
        engine_args = AsyncEngineArgs(**arguments)
    except TypeError as problem:
        raise ConfigError(f"options.engine_args: {problem}") from None
    host = VllmHost(engine_args)
    running = host.config
    chat = Chat(
        tokenizer,
        variables=settings.chat_template_kwargs,
        context=running.model_config.max_model_len,
        fold=settings.system == "fold",
    )
    identity = {
        "engine": "vllm",
        "model": name_of(model, place, config, revision),
        "dtype": str(running.model_config.dtype).removeprefix("torch."),
        "quantization": running.model_config.quantization,
        "max_model_len": running.model_config.max_model_len,
        "chat_template": hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()[:16],
        "chat_template_kwargs": settings.chat_template_kwargs,
        "engine_args": settings.engine_args,
        **({"system": "fold"} if settings.system == "fold" else {}),
    }
    return VllmEngine(host, chat, _ends(chat, config), identity)


class VllmEngine:
    """A causal language model with a chat template in vLLM. Build with `build_vllm_engine`."""

    def __init__(
        self, host: VllmHost, chat: Chat, ends: Sequence[int], identity: Mapping[str, Any]
    ) -> None:
        self._host = host
        self._chat = chat
        self._ends = list(ends)
        self._identity = dict(identity)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Weights, dtype, chat template, vLLM's arguments. How it is batched is not part of it."""
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Everything but rewards; label log-probabilities are exact."""
        return frozenset(
            {
                Capability.GENERATE,
                Capability.SAMPLES,
                Capability.LABEL_LOGPROBS,
                Capability.SCORE,
                Capability.STRUCTURED,
                Capability.PREFILL,
            }
        )

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Answer, as `rlaif.engines.Engine.ask` says.

        Raises:
            CallFailed: The prompt is too long or not to the chat template's taste, a label is not
                one token, the continuation is empty, or vLLM refuses the request.
            EngineMissing: A sampling parameter that vLLM does not know.
            EngineUnavailable: vLLM's engine has died.
            EngineError: The engine was closed.
        """
        match request:
            case Generate():
                return await self._generate(request)
            case Label():
                return [await self._label(request)]
            case Score():
                return [await self._score(request)]

    async def aclose(self) -> None:
        """Fail what is pending, end vLLM's processes. Safe to call twice."""
        await asyncio.to_thread(self._host.close)

    async def _generate(self, request: Generate) -> list[Reply]:
        sampling = request.sampling
        ids = self._chat.prompt_ids(request.messages, request.stub)
        limit = min(sampling.max_tokens, (self._chat.context or len(ids)) - len(ids))
        values: dict[str, Any] = {
            **_extra(sampling.extra),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": limit,
            "stop": list(sampling.stop),
            "stop_token_ids": self._ends,
        }
        if request.choices or request.schema:
            values["structured_outputs"] = _constraint(request)
        # Without temperature all seeds are one.
        drawn = tuple(dict.fromkeys(request.seeds if sampling.temperature else (0,)))
        outputs = await run_together(
            [self._host.run(ids, {**values, "seed": seed}) for seed in drawn]
        )
        spoken = [_spoken(output, request.stub) for output in outputs]
        replies = dict(zip(drawn, spoken, strict=True))
        return [replies[seed if sampling.temperature else 0] for seed in request.seeds]

    async def _label(self, request: Label) -> Reply:
        ids = self._chat.prompt_ids(request.messages, request.stub)
        labels = self._chat.label_ids(request.labels)
        candidates = sorted({token for group in labels for token in group})
        output = await self._host.run(
            ids,
            {
                "temperature": 0.0,
                "max_tokens": 1,
                "logprobs": len(candidates),
                "logprob_token_ids": candidates,
            },
        )
        first = output.outputs[0].logprobs[0]
        values = tuple(log_sum([first[token].logprob for token in group]) for group in labels)
        reply = _text(output)
        return Reply(reply.text, reply.finish, values, usage=reply.usage)

    async def _score(self, request: Score) -> Reply:
        prompt, scored = self._chat.score_ids(request.messages, request.continuation)
        ids = [*prompt, *scored]
        if self._chat.context is not None and len(ids) >= self._chat.context:
            raise CallFailed(
                f"prompt and continuation have {len(ids)} tokens; this engine takes "
                f"{self._chat.context} with the one it must write",
                kind="context-length",
            )
        output = await self._host.run(
            ids, {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
        )
        positions = output.prompt_logprobs[len(prompt) :]
        total = sum(at[token].logprob for token, at in zip(scored, positions, strict=True))
        return Reply(logprob=total, scored_tokens=len(scored), usage=_text(output).usage)


def _quiet() -> None:
    """Keep vLLM's log off stdout and send no usage reports, unless the user set otherwise."""
    for name, value in {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }.items():
        os.environ.setdefault(name, value)


def _tokenizer(
    model: str, place: str, revision: str | None, settings: VllmOptions
) -> tuple[Any, Any]:
    common: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": settings.trust_remote_code,
        "local_files_only": Path(place).is_dir(),
    }
    try:
        with quiet_transformers():
            tokenizer = load_pretrained(AutoTokenizer, place, **common)
            config = load_pretrained(AutoConfig, place, **common)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as problem:
        raise cannot_load(model, place, problem) from problem
    set_template(tokenizer, model, settings.chat_template)
    return tokenizer, config


def _ends(chat: Chat, config: Any) -> list[int]:
    """Return what ends a reply; those of the generation config vLLM adds itself."""
    named = config.get_text_config().eos_token_id
    ends = set(named) if isinstance(named, list) else {named} - {None}
    return sorted(chat.turn_ends() | ends)


def _extra(extra: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    from vllm import SamplingParams

    known = frozenset(SamplingParams.__struct_fields__) - _OURS
    for name, _ in extra:
        if name not in known or name.startswith("_"):
            raise EngineMissing(
                f"vLLM does not support the sampling parameter {name}",
                hint="remove it from sampling.extra",
            )
    return dict(extra)


def _constraint(request: Generate) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    if request.choices:
        return StructuredOutputsParams(choice=list(request.choices))
    return StructuredOutputsParams(json=orjson.loads(request.schema))


def _spoken(output: Any, stub: str) -> Reply:
    """Return the reply without what the model thought before it."""
    reply = _text(output)
    if stub:
        return reply
    text, reasoning = split_reasoning(reply.text)
    return replace(reply, text=text, reasoning=reasoning) if reasoning else reply


def _text(output: Any) -> Reply:
    only = output.outputs[0]
    usage = Usage(len(output.prompt_token_ids), len(only.token_ids), output.num_cached_tokens or 0)
    return Reply(only.text, only.finish_reason, usage=usage)
