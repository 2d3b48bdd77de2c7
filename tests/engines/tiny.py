"""Tiny random models with a real tokenizer, built in milliseconds, for exact checks in float32."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3NextConfig,
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTEXT = 192

_CORPUS = [
    "How do I boil an egg? Put it in water and wait for eight minutes.",
    "Which response is better, A or B? Answer with one letter: A or B. Yes. No.",
    "the quick brown fox jumps over the lazy dog and the dog does not mind at all",
] * 3

_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.15,
}


def make_tiny(folder: Path, kind: str = "llama") -> Path:
    """Write a model of random weights and its tokenizer; the same ones every time."""
    tokenizer = _tokenizer()
    vocabulary = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    match kind:
        case "llama":
            config: Any = LlamaConfig(**_SIZES, **vocabulary)
        case "sliding":
            config = MistralConfig(**_SIZES, **vocabulary, sliding_window=12)
        case "hybrid":
            config = Gemma3TextConfig(
                **_SIZES,
                **vocabulary,
                sliding_window=12,
                layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            )
        case "recurrent":
            config = Qwen3NextConfig(
                **_SIZES,
                **vocabulary,
                layer_types=["linear_attention", "full_attention", "linear_attention"],
                linear_num_value_heads=2,
                linear_num_key_heads=2,
                linear_key_head_dim=16,
                linear_value_head_dim=16,
                num_experts=0,
                mlp_only_layers=[0, 1, 2],
            )
        case "learned-positions":
            config = GPT2Config(
                **vocabulary, n_embd=64, n_layer=3, n_head=4, n_positions=CONTEXT, bos_token_id=0
            )
        case _:
            raise ValueError(kind)
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM.from_config
    model = build(config, dtype=torch.float32)
    if kind == "learned-positions":  # its own initialisation hardly tells tokens apart
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load_plain(folder: Path) -> tuple[Any, Any]:
    """The model and tokenizer as transformers loads them, for brute force."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    return model, PreTrainedTokenizerFast.from_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(_CORPUS, trainer)
    wrap: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = wrap(
        tokenizer_object=bare,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",  # as SmolLM2 has it: masks must not come from token ids
        unk_token="<|endoftext|>",
    )
    tokenizer.chat_template = CHATML
    return tokenizer
