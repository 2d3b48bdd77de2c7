"""Read → tokenise → split → plan, for the trainers on data sets: SFT, DPO and reward models."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from rlaif.config.train import TrainConfig
from rlaif.errors import InputError
from rlaif.training.data.chat import check_vocabulary, end_tokens
from rlaif.training.data.read import Loaded, Source, split_held_out
from rlaif.training.data.tokens import Tokenised, largest_token, plain_strings
from rlaif.training.harness.inputs import Inputs
from rlaif.training.models import context_length, identify_model, load_tokenizer, vocabulary_size

_PROVENANCE = ("constitution", "run", "judges", "principles")
_MOST_VALUES = 12


@dataclass(frozen=True, slots=True)
class Rows:
    """Token rows of one training."""

    train: Tokenised
    held_out: Tokenised | None
    texts: Dataset
    """What ``train`` was tokenised from."""

    tokenise: Callable[[Dataset], Tokenised]
    """Makes token rows of further texts, with the same tokenizer and length."""


def name_source(settings: TrainConfig, dataset: Source | None) -> Source:
    """Return the data set that a call or a file names; the call wins.

    Raises:
        InputError: Neither does.
    """
    source: Source | None = dataset if dataset is not None else settings.data
    if source is None:
        raise InputError("data is missing", hint="name an export folder, a file or a hub id")
    return source


def places(
    dataset: Source | None, model: str | Path | None, out: str | Path | None
) -> dict[str, str | Path | None]:
    """Return what a call names besides its settings, as settings."""
    return {"data": None if isinstance(dataset, Dataset) else dataset, "model": model, "out": out}


def read_rows(
    settings: TrainConfig,
    loaded: Loaded,
    tokenise: Callable[..., Tokenised],
    *,
    separate_pad: bool = False,
) -> Inputs[Rows]:
    """Tokenise and split what was read, and say what the result depends on.

    Args:
        settings: The trainer's.
        loaded: Rows fit for training.
        tokenise: `tokenise_pairs` or `tokenise_demonstrations`.
        separate_pad: For a scorer, which need not stop; see `load_tokenizer`.
    """
    tokenizer = load_tokenizer(
        settings.model,
        revision=settings.revision,
        chat_template=settings.chat_template,
        separate_pad=separate_pad,
    )
    if not separate_pad:
        end_tokens(tokenizer)
    max_length = usable_length(settings)
    plain = plain_strings(settings.chat_template)

    known = vocabulary_size(settings.model, revision=settings.revision)
    rows = max(known, len(tokenizer)) if known and separate_pad else known  # a scorer's grow

    def to_tokens(texts: Dataset) -> Tokenised:
        tokens = tokenise(texts, tokenizer, max_length=max_length, plain=plain)
        check_vocabulary(tokenizer, largest_token(tokens.dataset), rows)
        return tokens

    texts, held_texts = split_held_out(loaded.dataset, settings.held_out, settings.seed)
    tokens = to_tokens(texts)
    held = None if held_texts is None else to_tokens(held_texts)
    return Inputs(
        Rows(tokens, held, texts, to_tokens),
        tokenizer,
        plan_of(settings, max_length, tokens.fingerprint, held.fingerprint if held else None),
        with_notes(_facts(loaded), {"held out": held} if held else {}),
        (*loaded.notes, *tokens.notes),
    )


def with_notes(
    facts: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Tokenised]
) -> dict[str, Mapping[str, Any]]:
    """Return a card's facts with the notes on rows that are not trained on but measured."""
    notes = {name: "; ".join(part.notes) for name, part in measured.items() if part.notes}
    return {**facts, "Data": {**facts["Data"], **notes}}


def plan_of(settings: TrainConfig, max_length: int, *data: str | None) -> dict[str, Any]:
    """Return everything that changes the result, by content: what a resume must agree with."""
    values = settings.content()
    if values.get("reference_model"):
        values["reference_model"] = identify_model(values["reference_model"])
    return {
        **values,
        "max_length": max_length,
        "model": identify_model(settings.model, revision=settings.revision),
        "data": list(data),
    }


def usable_length(settings: TrainConfig) -> int:
    """Return ``max_length``, or the model's context where that is shorter."""
    context = context_length(settings.model, revision=settings.revision)
    return settings.max_length if context is None else min(settings.max_length, context)


def label_statistics(dataset: Dataset) -> dict[str, Any]:
    """Return counts of preference labels: pairs, ties, mean, and a histogram over [0.5, 1]."""
    labels = list(dataset["chosen_prob"])
    bins = Counter(min(int((p - 0.5) * 10 + 1e-9), 4) for p in labels)
    return {
        "pairs": len(labels),
        "ties": sum(p == 0.5 for p in labels),
        "mean": sum(labels) / len(labels),
        "histogram": {f"{0.5 + i / 10:.1f}–{0.6 + i / 10:.1f}": bins[i] for i in range(5)},
    }


def _facts(loaded: Loaded) -> dict[str, Mapping[str, Any]]:
    """Return the sections of the model card about the data."""
    rows, columns = loaded.dataset, loaded.dataset.column_names
    data = {"source": Path(loaded.name).name, "rows": len(rows)}
    left_out = {f"left out: {why}": n for why, n in (loaded.left_out or {}).items()}
    provenance = {name: _count_values(rows[name]) for name in _PROVENANCE if name in columns}
    facts: dict[str, Mapping[str, Any]] = {"Data": {**data, **left_out, **provenance}}
    if "chosen_prob" in columns:
        labels = label_statistics(rows)
        spans = labels.pop("histogram").items()
        facts["Labels"] = {**labels, **{f"chosen_prob {span}": n for span, n in spans}}
    return facts


def _count_values(column: Iterable[Any]) -> str:
    counts: Counter[str] = Counter()
    for value in column:
        counts.update(map(str, value if isinstance(value, list) else [value]))
    most = ", ".join(f"{value} ({n})" for value, n in counts.most_common(_MOST_VALUES))
    rest = len(counts) - _MOST_VALUES
    return f"{most} and {rest} more" if rest > 0 else most
