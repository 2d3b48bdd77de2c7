"""From rows to tokens: the chat template applied once, and what does not fit counted.

The response starts where the tokenised prompt and the tokenised prompt-with-response part, as in
TRL, so that templates which render a prompt differently alone are handled. Rows are cut at
``max_length`` from the end; a row whose prompt alone fills it has nothing to learn and is left out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from datasets import Dataset

from rlaif.errors import InputError
from rlaif.records import content_id
from rlaif.training.data.chat import NO_TEMPLATE, render_chat

_BATCH = 1000
Chat = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Token rows and what did not fit."""

    dataset: Dataset
    fingerprint: str
    """Content id over every token and label: what training results depend on."""

    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] | None = None


def tokenise_pairs(
    dataset: Dataset, tokenizer: Any, *, max_length: int, plain: bool = False
) -> Tokenised:
    """Turn preference rows into ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` and labels.

    Args:
        dataset: From `load_preferences`.
        tokenizer: With a chat template, unless ``plain``.
        max_length: Most tokens of prompt and response together.
        plain: Strings are bare text, ended by the end-of-sequence token; else they become turns.

    Raises:
        InputError: No row fits, the chat template refuses one, or chat messages with ``plain``.
    """
    return _tokenise(dataset, tokenizer, ("chosen", "rejected"), max_length, plain=plain)


def tokenise_demonstrations(
    dataset: Dataset, tokenizer: Any, *, max_length: int, plain: bool = False
) -> Tokenised:
    """Turn demonstrations into ``prompt_ids`` and ``completion_ids``; see `tokenise_pairs`."""
    return _tokenise(dataset, tokenizer, ("completion",), max_length, plain=plain)


def plain_strings(chat_template: str | None) -> bool:
    """Whether this setting asks for bare text instead of chat turns."""
    return chat_template == NO_TEMPLATE


def _tokenise(
    dataset: Dataset, tokenizer: Any, replies: Sequence[str], max_length: int, *, plain: bool
) -> Tokenised:
    labels = [name for name in ("chosen_prob", "margin") if name in dataset.column_names]
    tables: list[pa.Table] = []
    counts: Counter[str] = Counter()
    digest = ""
    for batch in dataset.iter(_BATCH):
        rows = list(_token_rows(batch, tokenizer, replies, plain=plain))
        kept = [
            row | {name: batch[name][place] for name in labels}
            for place, row in enumerate(rows)
            if _fits(row, replies, max_length, counts)
        ]
        if kept:
            digest = content_id("tokens", digest, kept)
            tables.append(pa.Table.from_pylist(kept))
    if not tables:
        raise InputError(
            f"all {len(dataset)} prompts fill max_length {max_length}: nothing is left to learn",
            hint="raise max_length or give shorter prompts",
        )
    wrapped = isinstance(dataset[0]["prompt"], str) and not plain
    notes = _notes(counts, len(dataset), max_length, wrapped=wrapped)
    too_long = counts["prompt-too-long"]
    tokens = Dataset(pa.concat_tables(tables, promote_options="default"))
    return Tokenised(
        tokens,
        digest,
        notes,
        {"prompt-too-long": too_long} if too_long else {},
    )


def _notes(counts: Counter[str], rows: int, max_length: int, *, wrapped: bool) -> tuple[str, ...]:
    notes = []
    if wrapped:
        notes.append(
            "prompts are strings: taken as user turns (chat_template: none keeps them bare)"
        )
    if counts["prompt-too-long"]:
        notes.append(
            f"{counts['prompt-too-long']} of {rows} rows left out: the prompt alone fills"
            f" max_length {max_length}"
        )
    if counts["cut"]:
        notes.append(
            f"{counts['cut']} of {rows} rows have a response cut at max_length {max_length}"
        )
    if counts["parted"]:
        notes.append(
            f"{counts['parted']} of {rows} prompts are rendered differently before a response:"
            " the chat template does not continue its own generation prompt"
        )
    return tuple(notes)


def _token_rows(
    batch: Mapping[str, list[Any]], tokenizer: Any, replies: Sequence[str], *, plain: bool
) -> Iterator[dict[str, Any]]:
    prompts = [_as_turns(prompt, "user", plain=plain) for prompt in batch["prompt"]]
    alone = _encode(tokenizer, prompts, opened=True)
    whole = {}
    for name in replies:
        ends = [_as_turns(reply, "assistant", plain=plain) for reply in batch[name]]
        joined = [_join(p, e, tokenizer) for p, e in zip(prompts, ends, strict=True)]
        whole[name] = _encode(tokenizer, joined, opened=False)
    for place, prompt_ids in enumerate(alone):
        shared = min(_common(prompt_ids, whole[name][place]) for name in replies)
        row: dict[str, Any] = {"prompt_ids": prompt_ids[:shared]}
        for name in replies:
            row[f"{name}_ids"] = whole[name][place][shared:]
        row["parted"] = shared < len(prompt_ids)
        yield row


def _fits(
    row: dict[str, Any], replies: Sequence[str], max_length: int, counts: Counter[str]
) -> bool:
    """Cut the replies of a row in place; False when nothing of them would be left."""
    counts["parted"] += row.pop("parted")
    room = max_length - len(row["prompt_ids"])
    if room <= 0:
        counts["prompt-too-long"] += 1
        return False
    names = [f"{name}_ids" for name in replies]
    counts["cut"] += any(len(row[name]) > room for name in names)
    for name in names:
        row[name] = row[name][:room]
    return True


def _as_turns(value: Any, role: str, *, plain: bool) -> str | Chat:
    if isinstance(value, str):
        return value if plain else [{"role": role, "content": value}]
    if plain:
        raise InputError(
            "chat_template is none, but the data set holds chat messages",
            hint="set chat_template to chatml or leave it out",
        )
    return [{"role": turn["role"], "content": turn["content"]} for turn in value]


def _join(prompt: str | Chat, reply: str | Chat, tokenizer: Any) -> str | Chat:
    if isinstance(prompt, str) and isinstance(reply, str):
        end = str(tokenizer.eos_token)
        return prompt + (reply if reply.endswith(end) else reply + end)
    assert isinstance(prompt, list)
    assert isinstance(reply, list)
    return prompt + reply


def _encode(tokenizer: Any, texts: Sequence[str | Chat], *, opened: bool) -> list[list[int]]:
    """Tokenise a batch; ``opened`` adds the start of an assistant turn to conversations."""
    if isinstance(texts[0], str):
        return list(tokenizer(list(texts))["input_ids"])
    rendered = [
        render_chat(tokenizer, text, opened=opened) for text in texts if not isinstance(text, str)
    ]
    return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))
