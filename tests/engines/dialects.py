"""Servers that refuse what OpenAI's takes, in the words of a dozen real ones.

Each entry is what one server answers to a request with a field it does not take, after its
documentation or reports of its users, and what must come of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from tests.engines.faults import Fault, error, payload

Kind = Literal["samples", "label", "choice"]
Refuse = Callable[[dict[str, Any]], Fault | None]


@dataclass(frozen=True)
class Dialect:
    """One imitation, and what 300 calls with default settings must come to."""

    name: str
    kind: Kind
    refuse: Refuse
    learned: Mapping[str, Any] = field(default_factory=dict)
    """What the engine must have learned; empty where the calls cannot work."""

    option: str = ""
    """Where they cannot work: the option that the error names."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """What is set from the start, where the field is not sent by default."""


def coded(name: str, words: str, code: str = "unsupported_parameter") -> Fault:
    """OpenAI's own form: the field apart from the words."""
    body = {"message": words, "type": "invalid_request_error", "param": name, "code": code}
    return Fault("status", 400, payload={"error": body})


def forbidden(name: str, given: Any) -> Fault:
    """FastAPI's form, as Mistral and others answer."""
    one = {
        "type": "extra_forbidden",
        "loc": ["body", name],
        "msg": "Extra inputs are not permitted",
        "input": given,
    }
    return Fault("status", 422, payload={"detail": [one]})


def unknown_name(name: str) -> Fault:
    """Gemini's form: a list around the error."""
    words = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
    inner = {
        "code": 400,
        "message": words,
        "status": "INVALID_ARGUMENT",
        "details": [{"fieldViolations": [{"description": words}]}],
    }
    return Fault("status", 400, payload=[{"error": inner}])


def nested(words: str) -> Fault:
    """LiteLLM's form: the upstream's JSON inside the message."""
    inside = orjson.dumps({"error": {"message": words, "type": "invalid_request_error"}}).decode()
    message = f"litellm.BadRequestError: OpenAIException - {inside}"
    outer = {"message": message, "type": None, "param": None, "code": "400"}
    return Fault("status", 400, payload={"error": outer})


def old_vllm(name: str, given: Any) -> Fault:
    """Python inside the message, as vLLM had it for long."""
    one = {
        "type": "extra_forbidden",
        "loc": ("body", name),
        "msg": "Extra inputs are not permitted",
        "input": given,
    }
    body = {"object": "error", "message": str([one]), "type": "BadRequestError", "code": 400}
    return Fault("status", 400, payload=body)


def having(name: str, fault: Callable[[dict[str, Any]], Fault]) -> Refuse:
    return lambda body: fault(body) if name in body else None


def above(name: str, limit: int, words: str) -> Refuse:
    return lambda body: error(400, words) if body.get(name, 0) > limit else None


def with_system(fault: Fault) -> Refuse:
    return lambda body: fault if body["messages"][0]["role"] == "system" else None


def in_turn(*refusals: Refuse) -> Refuse:
    return lambda body: next((fault for one in refusals if (fault := one(body))), None)


def plain_letter(body: dict[str, Any]) -> Fault:
    """A reply that takes no notice of the format it was asked for."""
    message = {"role": "assistant", "content": "A"}
    usage = {"prompt_tokens": 9, "completion_tokens": 1}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return payload({"choices": [choice], "usage": usage})


def without_logprobs(body: dict[str, Any]) -> Fault | None:
    return plain_letter(body) if body.get("logprobs") else None


NOT_CHAT = (
    "This is not a chat model and thus not supported in the v1/chat/completions endpoint. "
    "Did you mean to use v1/completions?"
)

DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        "mistral-seed",
        "samples",
        having("seed", lambda body: forbidden("seed", body["seed"])),
        {"seed": "omitted"},
    ),
    Dialect(
        "gemini-seed",
        "samples",
        having("seed", lambda _: unknown_name("seed")),
        {"seed": "omitted"},
    ),
    Dialect(
        "anthropic-seed",
        "samples",
        having("seed", lambda _: error(400, "seed: Extra inputs are not permitted")),
        {"seed": "omitted"},
    ),
    Dialect(
        "vllm-python-seed",
        "samples",
        having("seed", lambda body: old_vllm("seed", body["seed"])),
        {"seed": "omitted"},
    ),
    Dialect(
        "litellm-seed",
        "samples",
        having("seed", lambda _: nested("Unrecognized request argument supplied: seed")),
        {"seed": "omitted"},
    ),
    Dialect(
        "litellm-names-seed",
        "samples",
        having(
            "seed",
            lambda _: error(
                400,
                "litellm.UnsupportedParamsError: bedrock does not support parameters: ['seed'], "
                "for model=x. To drop these, set `litellm.drop_params=True`",
            ),
        ),
        {"seed": "omitted"},
    ),
    Dialect("groq-n", "samples", above("n", 1, "'n' : number must be at most 1"), {"n": "omitted"}),
    Dialect(
        "llama.cpp-n",
        "samples",
        above("n", 1, "Field 'n': Value must be between 1 <= value <= 1, but got 2"),
        {"n": "omitted"},
    ),
    Dialect(
        "litellm-before-llama.cpp-n",
        "samples",
        above(
            "n",
            1,
            "litellm.BadRequestError: OpenAIException - Field 'n': Value must be between 1 <= "
            "value <= 1, but got 2\n\nLiteLLM: model group 'small' failed with the error above. "
            "No fallback was attempted.",
        ),
        {"n": "omitted"},
    ),
    Dialect(
        "anthropic-n",
        "samples",
        above("n", 1, "n: Input should be 1; n must be 1"),
        {"n": "omitted"},
    ),
    Dialect(
        "openai-stop",
        "samples",
        having(
            "stop",
            lambda _: coded("stop", "Unsupported parameter: 'stop' is not supported here."),
        ),
        {"stop": "omitted"},
    ),
    Dialect(
        "xai-stop",
        "samples",
        having("stop", lambda _: error(400, "Argument not supported on this model: stop")),
        {"stop": "omitted"},
    ),
    Dialect(
        "openai-max_tokens",
        "samples",
        having(
            "max_tokens",
            lambda _: coded(
                "max_tokens",
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
            ),
        ),
        {"max_tokens": "max_completion_tokens"},
    ),
    Dialect(
        "old-max_completion_tokens",
        "samples",
        having(
            "max_completion_tokens",
            lambda _: error(400, "Unrecognized request argument supplied: max_completion_tokens"),
        ),
        {"max_tokens": "max_tokens"},
        options={"max_tokens_field": "max_completion_tokens"},
    ),
    Dialect(
        "gemma-system",
        "samples",
        with_system(error(400, "System role not supported")),
        {"system": "folded"},
    ),
    Dialect(
        "mistral-template-system",
        "samples",
        with_system(
            error(400, "Conversation roles must alternate user/assistant/user/assistant/...")
        ),
        {"system": "folded"},
    ),
    Dialect(
        "openai-system",
        "samples",
        with_system(
            coded(
                "messages[0].role",
                "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
                "unsupported_value",
            )
        ),
        {"system": "folded"},
    ),
    Dialect(
        "gemini-gemma-system",
        "samples",
        with_system(error(400, "Developer instruction is not enabled for models/gemma-3-27b-it")),
        {"system": "folded"},
    ),
    Dialect(
        "three-at-once",
        "samples",
        in_turn(
            having("seed", lambda _: unknown_name("seed")),
            above("n", 1, "Multiple candidates is not enabled for this model: n must be 1"),
            with_system(error(400, "System role not supported")),
        ),
        {"seed": "omitted", "n": "omitted", "system": "folded"},
    ),
    Dialect(
        "openai-top_logprobs",
        "label",
        lambda body: (
            coded(
                "top_logprobs",
                "Invalid 'top_logprobs': integer above maximum value. Expected a value <= 20, but "
                "got 50 instead.",
                "integer_above_max_value",
            )
            if body.get("top_logprobs", 0) > 20
            else None
        ),
        {"top_logprobs": 20},
        options={"top_logprobs": 50},
    ),
    Dialect(
        "fireworks-top_logprobs",
        "label",
        above("top_logprobs", 5, "top_logprobs must be between 0 and 5"),
        {"top_logprobs": 5},
    ),
    Dialect(
        "xai-top_logprobs",
        "label",
        above("top_logprobs", 8, "top_logprobs: value must be at most 8"),
        {"top_logprobs": 8},
    ),
    Dialect(
        "vllm-max_logprobs",
        "label",
        above(
            "top_logprobs",
            5,
            "Requested sample logprobs of 20, which is greater than max allowed: 5",
        ),
        {"top_logprobs": 5},
    ),
    Dialect(
        "unnamed-ceiling",
        "label",
        above("top_logprobs", 8, "top_logprobs is out of range"),
        {"top_logprobs": 8},
    ),
    Dialect(
        "groq-logprobs",
        "label",
        having("logprobs", lambda _: error(400, "`logprobs` is not supported with this model")),
        option="words: true",
    ),
    Dialect(
        "openai-logprobs",
        "label",
        having(
            "logprobs",
            lambda _: error(403, "You are not allowed to request logprobs from this model"),
        ),
        option="words: true",
    ),
    Dialect("ignores-logprobs", "label", without_logprobs, option="words: true"),
    Dialect(
        "deepseek-response_format",
        "choice",
        having("response_format", lambda _: error(400, "This response_format type is unavailable")),
        {"response_format": "omitted"},
    ),
    Dialect(
        "groq-response_format",
        "choice",
        having(
            "response_format",
            lambda _: error(
                400, "This model does not support response format `json_schema`. See docs."
            ),
        ),
        {"response_format": "omitted"},
    ),
    Dialect(
        "500-at-a-format",
        "choice",
        having("response_format", lambda _: error(500, "oops")),
        {"response_format": "omitted"},
    ),
    Dialect(
        "openai-temperature",
        "samples",
        having(
            "temperature",
            lambda _: coded(
                "temperature",
                "Unsupported value: 'temperature' does not support 0.7 with this model. Only the "
                "default (1) value is supported.",
                "unsupported_value",
            ),
        ),
        option="options.omit: [temperature]",
    ),
    Dialect(
        "anthropic-top_p",
        "samples",
        having(
            "top_p",
            lambda _: error(
                400, "`temperature` and `top_p` cannot both be specified for this model."
            ),
        ),
        option="options.omit: [",
    ),
    Dialect(
        "responses-only",
        "samples",
        lambda _: Fault("status", 404, payload={"error": {"message": NOT_CHAT, "param": "model"}}),
        option="options.api to responses",
    ),
)
