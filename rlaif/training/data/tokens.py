"""From rows to tokens: the chat template applied once, and what does not fit counted.

The response starts where the tokenised prompt and the tokenised prompt-with-response part, as in
TRL, so that templates which render a prompt differently alone are handled. Rows are cut at
``max_length`` from the end; a row whose prompt alone fills it has nothing to learn and is left out,
and so is a pair whose responses are then the same.

A response of several turns may hold a user's or a tool's: ``chosen_learned`` and its like say which
of its tokens are the assistant's. They are missing where all are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from rlaif.errors import InputError
from rlaif.records import Message, content_id
from rlaif.records.tool_use import left_out
from rlaif.training.data.chat import NO_TEMPLATE, ToolsLeftOut, render_chat, set_chat_template
from rlaif.training.data.messages import tools_of, turns_of

_BATCH = 1000
_NO_TOOLS = "the chat template does not support their tools"


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Token rows and what did not fit."""

    dataset: Dataset
    fingerprint: str
    """Content id over every token and label: what training results depend on."""

    notes: tuple[str, ...] = ()


def tokenise_pairs(
    dataset: Dataset, tokenizer: Any, *, max_length: int, plain: bool = False
) -> Tokenised:
    """Turn preference rows into ``prompt_ids``, ``chosen_ids``, ``rejected_ids`` and labels.

    Args:
        dataset: From `load_preferences`.
        tokenizer: With a chat template, unless ``plain``.
        max_length: Most tokens of prompt and response together.
        plain: Strings are bare text (``chat_template: none``); else they become turns.

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
    if plain:
        set_chat_template(tokenizer, NO_TEMPLATE)
    labels = [name for name in ("chosen_prob", "margin") if name in dataset.column_names]
    tables: list[pa.Table] = []
    counts: Counter[str] = Counter()
    digest = ""
    for batch in dataset.iter(_BATCH):
        kept = [
            row | {name: batch[name][place] for name in labels}
            for place, row in _token_rows(batch, tokenizer, replies, counts, plain=plain)
            if _fits(row, replies, max_length, counts)
        ]
        if kept:
            digest = content_id("tokens", digest, kept)
            names = dict.fromkeys(name for row in kept for name in row)
            tables.append(pa.table({name: [row.get(name) for row in kept] for name in names}))
    if not tables and counts["tools"]:
        raise InputError(
            f"of {len(dataset)} rows, {counts['tools']} have tools that the chat template leaves"
            f" out, and the prompts of the others fill max_length {max_length}",
            hint="choose a model whose chat template supports tools",
        )
    if not tables and counts["prompt-too-long"] == len(dataset):
        raise InputError(
            f"all {len(dataset)} prompts fill max_length {max_length}: nothing is left to learn",
            hint="raise max_length or give shorter prompts",
        )
    if not tables:
        why = "; ".join(_notes(counts, len(dataset), max_length, wrapped=False))
        raise InputError(
            f"nothing is left to learn: {why}", hint="raise max_length, or check the data"
        )
    wrapped = isinstance(dataset[0]["prompt"], str) and not plain
    notes = _notes(counts, len(dataset), max_length, wrapped=wrapped)
    return Tokenised(Dataset(pa.concat_tables(tables, promote_options="default")), digest, notes)


def _notes(counts: Counter[str], rows: int, max_length: int, *, wrapped: bool) -> tuple[str, ...]:
    notes = []
    if wrapped:
        notes.append(
            "prompts are strings: taken as user turns (chat_template: none keeps them bare)"
        )
    if counts["tools"]:
        notes.append(f"{counts['tools']} of {rows} rows left out: {_NO_TOOLS}")
    if counts["prompt-too-long"]:
        notes.append(
            f"{counts['prompt-too-long']} of {rows} rows left out: the prompt alone fills"
            f" max_length {max_length}"
        )
    if counts["same"]:
        notes.append(
            f"{counts['same']} of {rows} pairs left out: both responses are the same tokens, as far"
            f" as max_length {max_length} goes"
        )
    if counts["no-prompt"]:
        notes.append(f"{counts['no-prompt']} of {rows} rows left out: the prompt has no token")
    if counts["no-response"]:
        notes.append(f"{counts['no-response']} of {rows} rows left out: a response has no token")
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
    batch: Mapping[str, list[Any]],
    tokenizer: Any,
    replies: Sequence[str],
    counts: Counter[str],
    *,
    plain: bool,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield place and tokens of each row; those whose tools the template leaves out are counted."""
    rows: dict[int, tuple[list[Message], list[list[Message]], list[str]]] = {}
    for place in range(len(batch["prompt"])):
        row = {name: batch[name][place] for name in ("prompt", "tools", *replies) if name in batch}
        try:
            if plain:
                _check_plain(row, replies)
            prompt, turns = _turns(row, replies)
            rows[place] = prompt, turns, _render(prompt, turns, tokenizer)
        except ToolsLeftOut:
            counts["tools"] += 1
    columns = [
        tokenizer(list(column), add_special_tokens=False)["input_ids"]
        for column in zip(*(texts for _, _, texts in rows.values()), strict=True)
    ]
    for (place, (prompt, turns, _)), prompt_ids, *whole in zip(rows.items(), *columns, strict=True):
        shared = min(_common(prompt_ids, ids) for ids in whole)
        row = {"prompt_ids": prompt_ids[:shared]}
        for name, reply, ids in zip(replies, turns, whole, strict=True):
            row[f"{name}_ids"] = ids[shared:]
            if any(turn["role"] != "assistant" for turn in reply):
                row[f"{name}_learned"] = _learned(tokenizer, prompt, reply, ids)[shared:]
        row["parted"] = shared < len(prompt_ids)
        yield place, row


def _turns(
    row: Mapping[str, Any], replies: Sequence[str]
) -> tuple[list[Message], list[list[Message]]]:
    prompt = turns_of(row["prompt"], "user")
    if tools := tools_of(row.get("tools")):
        prompt[0] = {**prompt[0], "tools": tools}
    return prompt, [turns_of(row[name], "assistant") for name in replies]


def _render(prompt: list[Message], replies: list[list[Message]], tokenizer: Any) -> list[str]:
    """Return the prompt alone, and with each reply, as the chat template renders them.

    Raises:
        ToolsLeftOut: The template does not support the row's tools.
    """
    texts = [render_chat(tokenizer, prompt, opened=True)]
    for reply in replies:
        whole = render_chat(tokenizer, [*prompt, *reply], opened=False)
        rendered = whole[_common(texts[0], whole) :]
        if lost := left_out(reply, rendered):
            raise ToolsLeftOut(f"the chat template leaves out the call of {lost!r}")
        texts.append(whole)
    return texts


def _learned(
    tokenizer: Any, prompt: list[Message], reply: list[Message], ids: Sequence[int]
) -> list[bool]:
    """Return which tokens of prompt and reply an assistant's turn of the reply says."""
    learned = [False] * len(ids)
    for place, turn in enumerate(reply):
        if turn["role"] != "assistant":
            continue
        before = render_chat(tokenizer, [*prompt, *reply[:place]], opened=True)
        after = render_chat(tokenizer, [*prompt, *reply[: place + 1]], opened=False)
        start, end = (
            _common(tokenizer(text, add_special_tokens=False)["input_ids"], ids)
            for text in (before, after)
        )
        learned[start:end] = [True] * (end - start)
    return learned


def _check_plain(row: Mapping[str, Any], replies: Sequence[str]) -> None:
    if not all(isinstance(row[name], str) for name in ("prompt", *replies)):
        raise InputError(
            "chat_template is none, but the data set holds chat messages",
            hint="set chat_template to chatml or leave it out",
        )
    if tools_of(row.get("tools")):
        raise ToolsLeftOut("chat_template is none, but the data set holds tools")


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
    if len(replies) > 1 and not row["prompt_ids"]:
        counts["no-prompt"] += 1  # nothing would predict the first token
        return False
    cut = any(len(row[name]) > room for name in names)
    for name in [name for name in row if name.partition("_")[0] in replies]:
        row[name] = row[name][:room]
    if not all(
        any(row.get(f"{name}_learned", [True] * len(row[f"{name}_ids"]))) for name in replies
    ):
        counts["no-response"] += 1
        return False
    if len(replies) > 1 and row[names[0]] == row[names[1]]:
        counts["same"] += 1
        return False
    counts["cut"] += cut
    return True


def largest_token(dataset: Dataset) -> int:
    """Return the largest number among the tokens of all rows."""
    columns = [name for name in dataset.column_names if name.endswith("_ids")]
    found = (pc.max(pc.list_flatten(dataset.data[name])).as_py() for name in columns)
    return int(max(number for number in found if number is not None))


def _common(first: Sequence[Any], second: Sequence[Any]) -> int:
    for place, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return place
    return min(len(first), len(second))
