"""Tiny random models in memory and on disk, made of the parts in ``tests/training/tiny.py``."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tests.training.tiny import WORDS, make_tiny, make_tokenizer

WORD = WORDS[0]
PROMPTS = [f"say the {word} colour" for word in WORDS[:8]]


def make_config(tokenizer: Any, **changes: Any) -> LlamaConfig:
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.1,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return LlamaConfig(**settings | changes)


def make_policy(**changes: Any) -> Any:
    torch.manual_seed(0)
    policy: Any = LlamaForCausalLM(make_config(make_tokenizer(), **changes))
    return policy.eval()


def make_critic(tokenizer: Any | None = None, **changes: Any) -> Any:
    torch.manual_seed(1)
    kind: Any = LlamaForSequenceClassification
    return kind(make_config(tokenizer or make_tokenizer(), num_labels=1, **changes)).eval()


def save_policy(folder: Path, **options: Any) -> Path:
    return make_tiny(folder, **options)


def save_reward_model(folder: Path, *, tokenizer: Any | None = None, **changes: Any) -> Path:
    tokenizer = tokenizer or make_tokenizer()
    make_critic(tokenizer, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def count_word(prompts: Any, responses: list[str], **columns: Any) -> list[float]:
    """A scorer: how often the word occurs."""
    return [float(response.split().count(WORD)) for response in responses]
