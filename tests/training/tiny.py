"""A tiny random llama with its own tokenizer, built without any download, and data for it."""

from pathlib import Path
from typing import Any

from datasets import Dataset

COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "gold")
WORDS = (
    *COLOURS,
    *("good", "bad", "sky", "sea", "tree", "stone", "say", "name", "a", "the", "colour", "of"),
    *("user", "assistant", "system", "yes", "no", "now", "then", "very", "much", "more"),
)
TEMPLATE = (
    "{% for m in messages %}{{ '<s> ' + m['role'] + ' ' + m['content'] + ' </s> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s> assistant ' }}{% endif %}"
)


def make_tiny(
    folder: Path, *, template: bool = True, pad_is_eos: bool = False, seed: int = 0
) -> Path:
    """Save a llama of about 20,000 parameters and a word tokenizer; return the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(template=template, pad_is_eos=pad_is_eos)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(*, template: bool = True, pad_is_eos: bool = False) -> Any:
    """A tokenizer of one token per word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", *([] if pad_is_eos else ["<pad>"])]
    vocabulary = {word: place for place, word in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>" if pad_is_eos else "<pad>",
    )
    if template:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def colour_pairs(count: int = 16, *, p: float | list[float] = 1.0, **columns: Any) -> Dataset:
    """Pairs whose chosen response says "good" and whose rejected one says "bad"; lengths vary."""
    rows = []
    for i in range(count):
        colour, other = COLOURS[i % 8], COLOURS[(i // 8 + i + 1) % 8]
        tail = " very much more"[: 5 * (i % 4)].rstrip()
        rows.append(
            {
                "prompt": user(f"say the colour of the {colour} {other} sky"[: 21 + 9 * (i % 3)]),
                "chosen": assistant(f"good {colour}{tail}"),
                "rejected": assistant(f"bad {other}" if i % 2 else f"bad {other} now then"),
                "chosen_prob": p[i % len(p)] if isinstance(p, list) else p,
                "prompt_id": f"p{i}",
            }
        )
    dataset = Dataset.from_list(rows)
    for name, values in columns.items():
        dataset = dataset.add_column(name, values)
    return dataset
