"""Providers: which options fit whom. A preset sets options and nothing else; the user's own win.

What each is known to do, and how that was checked, stands in docs/servers.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Provider = Literal[
    "openai",
    "azure",
    "anthropic",
    "gemini",
    "mistral",
    "deepseek",
    "groq",
    "together",
    "fireworks",
    "openrouter",
    "bedrock",
    "xai",
    "cerebras",
    "vllm",
    "llama.cpp",
    "litellm",
]

_NO_LABELS: Mapping[str, Any] = {"labels": "none"}


@dataclass(frozen=True, slots=True)
class Preset:
    """Options of one provider."""

    options: Mapping[str, Any] = field(default_factory=dict)
    base_url: str = ""
    """Where it is; empty for what has an address per customer or runs on one's own machine."""

    address: str = ""
    """What such an address looks like."""


PRESETS: Mapping[str, Preset] = {
    "openai": Preset(
        {"labels": "top_logprobs", "max_tokens_field": "max_completion_tokens"},
        "https://api.openai.com/v1",
    ),
    "azure": Preset(
        {
            "labels": "top_logprobs",
            "key_header": "api-key",
            "query": {"api-version": "2024-10-21"},
        },
        address="it looks like https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT",
    ),
    "anthropic": Preset(
        {
            **_NO_LABELS,
            "structured": "none",
            "supports_n": False,
            "supports_seed": False,
            "omit": ("top_p",),
        },
        "https://api.anthropic.com/v1",
    ),
    "gemini": Preset(
        {**_NO_LABELS, "supports_seed": False},
        "https://generativelanguage.googleapis.com/v1beta/openai",
    ),
    "mistral": Preset(
        {**_NO_LABELS, "rename": {"seed": "random_seed"}}, "https://api.mistral.ai/v1"
    ),
    "deepseek": Preset(
        {
            "labels": "top_logprobs",
            "structured": "none",
            "supports_n": False,
            "supports_seed": False,
        },
        "https://api.deepseek.com/v1",
    ),
    "groq": Preset({**_NO_LABELS, "supports_n": False}, "https://api.groq.com/openai/v1"),
    "together": Preset(
        {"labels": "top_logprobs", "rename": {"top_logprobs": "logprobs"}},
        "https://api.together.xyz/v1",
    ),
    "fireworks": Preset(
        {"labels": "top_logprobs", "top_logprobs": 5},
        "https://api.fireworks.ai/inference/v1",
    ),
    "openrouter": Preset({"labels": "top_logprobs"}, "https://openrouter.ai/api/v1"),
    "bedrock": Preset(
        {**_NO_LABELS, "supports_n": False, "supports_seed": False},
        address="it looks like https://bedrock-runtime.REGION.amazonaws.com/openai/v1",
    ),
    "xai": Preset({"labels": "top_logprobs", "top_logprobs": 8}, "https://api.x.ai/v1"),
    "cerebras": Preset(
        {"labels": "top_logprobs", "supports_n": False}, "https://api.cerebras.ai/v1"
    ),
    "vllm": Preset(
        {"prefill": True, "score": "vllm"}, address="it looks like http://127.0.0.1:8000/v1"
    ),
    "llama.cpp": Preset(
        {"labels": "top_logprobs", "top_logprobs": 200, "supports_n": False},
        address="it looks like http://127.0.0.1:8080/v1",
    ),
    "litellm": Preset({"labels": "top_logprobs"}, address="it looks like http://127.0.0.1:4000/v1"),
}
