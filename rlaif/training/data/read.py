"""Data sets for training: read from wherever they are, checked before anything is loaded on top.

A preference row has ``prompt``, ``chosen`` and ``rejected`` (chat messages or strings; the prompt
may also be the common start of the two), and ``chosen_prob``, the judge's probability in [0.5, 1]
that chosen is better; or, as in labelled sets, ``response_a``, ``response_b`` and a ``label`` of a,
b or tie. A demonstration has ``messages``, or ``prompt`` and ``completion`` (also called
``response``). Messages may call tools, which a column ``tools`` defines. What is left out is
counted by reason, and what was assumed is noted.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from datasets import Dataset, DatasetDict, Value, load_dataset

from rlaif.errors import InputError
from rlaif.records import content_uniform
from rlaif.training.data.files import TRAIN, pick_split, read_path
from rlaif.training.data.messages import check_texts, take_prompts_off, turns_of

Source: TypeAlias = str | Path | Dataset | DatasetDict
Splits: TypeAlias = tuple[str, ...]

GOLD_SPLITS: Splits = ("test", "validation", TRAIN)
"""What is measured on, in the order of preference."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rows fit for training, and what happened on the way."""

    dataset: Dataset
    notes: tuple[str, ...] = ()
    """What was assumed, for the log and the model card."""

    left_out: Mapping[str, int] | None = None
    """Rows left out, by reason."""

    name: str = ""
    """Where they came from."""


def load_preferences(source: Source, *, split: str = TRAIN) -> Dataset:
    """Return preference rows: prompt, chosen, rejected, chosen_prob and whatever else is there.

    Args:
        source: A folder written by ``rlaif export``, a Parquet, JSONL or JSON file, a folder of
            such files, a saved or loaded ``datasets.Dataset``, or a hub id.
        split: The one that is read, where there are several.

    Raises:
        InputError: Empty, no such split, columns missing, a label outside [0.5, 1], or nothing but
            ties.
    """
    return read_preferences(source, splits=(split,)).dataset


def load_demonstrations(
    source: Source, *, turns: Literal["last", "all"] = "last", split: str = TRAIN
) -> Dataset:
    """Return demonstrations as ``prompt`` and ``completion`` rows; other columns are kept.

    Args:
        source: As for `load_preferences`.
        turns: Of a conversation, learn the last assistant turn, or each one as its own row.
        split: The one that is read, where there are several.

    Raises:
        InputError: Empty, no such split, columns missing, or no assistant turn anywhere.
    """
    return read_demonstrations(source, turns=turns, splits=(split,)).dataset


def read_preferences(source: Source, *, splits: Splits = (TRAIN,), margins: bool = False) -> Loaded:
    """The same as `load_preferences`, with what was assumed and left out.

    Args:
        source: As there.
        splits: The first of these that it has is read.
        margins: Whether every row needs a ``margin``; else that column may hold anything.
    """
    name, dataset, notes = _open(source, splits)
    left_out: dict[str, int] = {}
    if {"response_a", "response_b", "label"} <= set(dataset.column_names):
        check_texts(name, dataset, "response_a", "response_b")
        dataset, left_out["tie"] = _from_comparisons(name, dataset)
    _require(name, dataset, "chosen", "rejected")
    has_prompts = "prompt" in dataset.column_names
    check_texts(name, dataset, *(["prompt"] if has_prompts else []), "chosen", "rejected")
    if has_prompts:
        dataset, taken_off = take_prompts_off(name, dataset, ("chosen", "rejected"))
        if taken_off:
            notes.append("chosen and rejected began with the prompt: it was taken off")
    else:
        dataset = _with_prompts(name, dataset)
        notes.append("no prompt column: the common start of chosen and rejected is the prompt")
    if "chosen_prob" not in dataset.column_names:
        dataset = dataset.add_column("chosen_prob", [1.0] * len(dataset))
        notes.append("no chosen_prob column: every label is taken as certain (1.0)")
    _check_labels(name, dataset)
    dataset = _cast_to_float(dataset, "chosen_prob")
    if margins:
        _check_margins(name, dataset)
    dataset, left_out["identical"] = _without_identical(name, dataset)
    dataset, left_out["empty-chosen"] = _without_empty(name, dataset, "chosen")
    return Loaded(dataset, tuple(notes), {k: n for k, n in left_out.items() if n}, name)


def read_demonstrations(
    source: Source, *, turns: Literal["last", "all"] = "last", splits: Splits = (TRAIN,)
) -> Loaded:
    """The same as `load_demonstrations`, with what was assumed and left out."""
    name, dataset, notes = _open(source, splits)
    columns = dataset.column_names
    if "messages" in columns:
        return _from_conversations(name, dataset, turns, notes)
    if "completion" not in columns and "response" in columns:
        dataset = dataset.rename_column("response", "completion")
    _require(name, dataset, "prompt", "completion")
    check_texts(name, dataset, "prompt", "completion")
    dataset, taken_off = take_prompts_off(name, dataset, ("completion",))
    notes += ["completions began with the prompt: it was taken off"] if taken_off else []
    dataset, empty = _without_empty(name, dataset, "completion")
    return Loaded(dataset, tuple(notes), {"empty-completion": empty} if empty else {}, name)


def split_held_out(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Split by prompt: every row of a prompt falls on the same side, whatever else is there.

    The draw belongs to the prompt's content, so a row never moves when the data set grows.

    Raises:
        InputError: The share leaves one side empty.
    """
    if share == 0:
        return dataset, None
    held = [content_uniform(seed, "held-out", prompt) < share for prompt in dataset["prompt"]]
    if all(held) or not any(held):
        raise InputError(
            f"held_out {share}: of {len(held)} rows, {sum(held)} would be held out",
            hint="change held_out or seed, or give more prompts",
        )
    train = dataset.select([i for i, out in enumerate(held) if not out])
    return train, dataset.select([i for i, out in enumerate(held) if out])


def _open(source: Source, splits: Splits) -> tuple[str, Dataset, list[str]]:
    """Return name, rows and notes of one split."""
    if isinstance(source, Dataset | DatasetDict):
        name, (dataset, notes) = "the data set", pick_split("the data set", source, splits)
    elif Path(source).exists():
        name, (dataset, notes) = str(source), read_path(Path(source), splits)
    else:
        name, (dataset, notes) = (
            str(source),
            pick_split(str(source), _from_hub(str(source)), splits),
        )
    if len(dataset) == 0:
        raise InputError(f"{name}: the data set is empty", hint="give at least one row")
    return name, dataset, list(notes)


def _from_hub(name: str) -> DatasetDict:
    is_path = name.count("/") != 1 or name.startswith((".", "~"))
    if is_path or Path(name).suffix in (".parquet", ".jsonl", ".json", ".csv"):
        raise InputError(f"{name}: no such file or folder")
    try:
        loaded = load_dataset(name)
    except Exception as problem:
        first = (str(problem) or type(problem).__name__).splitlines()[0]
        raise InputError(
            f"{name}: not a local file, and cannot be loaded from the Hub: {first}"
        ) from problem
    assert isinstance(loaded, DatasetDict)
    return loaded


def _require(name: str, dataset: Dataset, *needed: str) -> None:
    missing = [column for column in needed if column not in dataset.column_names]
    if missing:
        raise InputError(
            f"{name}: missing column: {', '.join(missing)}",
            hint=f"its columns are {', '.join(dataset.column_names)}",
        )


def _from_comparisons(name: str, dataset: Dataset) -> tuple[Dataset, int]:
    """Turn labels a and b into chosen and rejected; a tie names neither and is left out."""
    rows: list[dict[str, Any]] = []
    for place, row in enumerate(dataset, start=1):
        label = row.pop("label")
        if label not in ("a", "b", "tie"):
            raise InputError(f"{name}: row {place}: label is {label!r:.40}, not a, b or tie")
        first, second = row.pop("response_a"), row.pop("response_b")
        chosen, rejected = (second, first) if label == "b" else (first, second)
        if label != "tie":
            rows.append({**row, "chosen": chosen, "rejected": rejected})
    if not rows:
        raise InputError(f"{name}: all {len(dataset)} labels are ties: there is nothing to learn")
    return Dataset.from_list(rows), len(dataset) - len(rows)


def _with_prompts(name: str, dataset: Dataset) -> Dataset:
    from trl.data_utils import extract_prompt

    rows = [extract_prompt(row) for row in dataset]
    if not all(row["prompt"] for row in rows):
        raise InputError(
            f"{name}: missing column: prompt, and chosen and rejected do not start alike",
            hint="add a prompt column",
        )
    return Dataset.from_list(rows)


def _check_labels(name: str, dataset: Dataset) -> None:
    ties = 0
    for place, p in enumerate(dataset["chosen_prob"], start=1):
        if isinstance(p, bool) or not isinstance(p, int | float | None):
            raise InputError(
                f"{name}: row {place}: chosen_prob is {p!r:.40}, not a number",
                hint="a probability in [0.5, 1] that chosen is better",
            )
        if p is None or not math.isfinite(p) or not 0.5 <= p <= 1.0:
            hint = "below 0.5, swap chosen and rejected and use 1 − p"
            raise InputError(f"{name}: row {place}: chosen_prob is {p}, not in [0.5, 1]", hint=hint)
        ties += p == 0.5
    if ties == len(dataset):
        raise InputError(
            f"{name}: all {ties} pairs have chosen_prob 0.5: there is nothing to learn",
            hint="a judge that never prefers anything cannot teach; look at its audit",
        )


def _check_margins(name: str, dataset: Dataset) -> None:
    if "margin" not in dataset.column_names:
        raise InputError("margin_scale needs a margin column", hint="set margin_scale to 0")
    for place, margin in enumerate(dataset["margin"], start=1):
        number = isinstance(margin, int | float) and not isinstance(margin, bool)
        if not number or not math.isfinite(margin):
            raise InputError(
                f"{name}: row {place}: margin is {margin!r:.40}, not a number",
                hint="give every row a margin, or set margin_scale to 0",
            )


def _cast_to_float(dataset: Dataset, column: str) -> Dataset:
    """Turn integers into floats."""
    whole = "int" in str(getattr(dataset.features[column], "dtype", ""))
    return dataset.cast_column(column, Value("float64")) if whole else dataset


def _without_empty(name: str, dataset: Dataset, column: str) -> tuple[Dataset, int]:
    """Leave out rows that would teach to answer nothing."""
    keep = [place for place, reply in enumerate(dataset[column]) if not _is_empty(reply)]
    if not keep:
        raise InputError(f"{name}: {column} is empty in every row")
    left_out = len(dataset) - len(keep)
    return (dataset.select(keep) if left_out else dataset), left_out


def _is_empty(reply: Any) -> bool:
    turns = turns_of(reply, "assistant")
    return not any(turn["content"].strip() or "tool_calls" in turn for turn in turns)


def _without_identical(name: str, dataset: Dataset) -> tuple[Dataset, int]:
    """Pairs of twice the same response have no gradient; they only cost time."""
    columns = zip(dataset["chosen"], dataset["rejected"], strict=True)
    keep = [place for place, (chosen, rejected) in enumerate(columns) if chosen != rejected]
    if not keep:
        raise InputError(f"{name}: chosen and rejected are identical in every row")
    left_out = len(dataset) - len(keep)
    return (dataset.select(keep) if left_out else dataset), left_out


def _from_conversations(name: str, dataset: Dataset, turns: str, notes: Sequence[str]) -> Loaded:
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    check_texts(name, dataset, "messages", optional=True)
    for row in dataset:
        rest = {key: value for key, value in row.items() if key != "messages"}
        places = list(_assistant_turns(row["messages"] or ()))
        if not places:
            left_out["no-assistant-turn"] += 1
        for place in places if turns == "all" else places[-1:]:
            prompt, completion = row["messages"][:place], row["messages"][place : place + 1]
            if _is_empty(completion):
                left_out["empty-reply"] += 1
            else:
                rows.append({**rest, "prompt": prompt, "completion": completion})
    if not rows:
        raise InputError(f"{name}: no conversation has a reply of the assistant after a prompt")
    return Loaded(Dataset.from_list(rows), tuple(notes), dict(left_out), name)


def _assistant_turns(messages: Sequence[Mapping[str, Any]]) -> Iterable[int]:
    """Places of assistant messages that answer something."""
    return (i for i, message in enumerate(messages) if i and message["role"] == "assistant")
