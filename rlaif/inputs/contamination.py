"""Prompts that contain what a model is to be evaluated on: overlap of word n-grams.

A prompt is left out when it holds at least a given share of the n-grams of one test item, as in
Tülu 3 (arXiv 2411.15124: 8-grams, one half). Every text of a test record is an item. Only hashes of
the evaluation sets are kept: 16 bytes an n-gram.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlaif.config.prompts import DecontaminateConfig
from rlaif.errors import RecordError
from rlaif.inputs.columns import all_text, find_column
from rlaif.inputs.hashes import HashTable, conversation_text, hash_text, words
from rlaif.inputs.places import Places, read_path
from rlaif.inputs.records import Broken
from rlaif.records import Prompt


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a prompt has in common with an evaluation set."""

    item: str
    """Where the test item stands: file and line."""

    share: float
    """Share of the item's n-grams that the prompt holds, in (0, 1]."""


class Contamination:
    """The n-grams of evaluation sets.

    Raises:
        RecordError: A set cannot be read, holds no text, or lacks every one of the columns.
    """

    def __init__(self, config: DecontaminateConfig) -> None:
        self._ngram, self._threshold = config.ngram, config.threshold
        self._table = HashTable()
        self._places = Places()
        items: list[int] = []
        sizes: list[int] = []
        for path in config.against:
            before = len(items)
            records = read_path(path, self._places, columns=config.columns, whole_names=True)
            for place, record in records:
                if isinstance(record, Broken):
                    # A test item that is passed over would be looked for in no prompt.
                    raise RecordError(
                        f"decontaminate.against: {self._places.text(place)}: {record.message}",
                        hint="fix the record, or remove it",
                    )
                for text in _texts(record, config.columns):
                    grams = self._grams(text)
                    for gram in grams.tolist():
                        self._table.add(gram, len(items))
                    items.append(place)
                    sizes.append(len(grams))
            if len(items) == before:
                what = "text" if config.columns is None else f"text in {', '.join(config.columns)}"
                raise RecordError(f"decontaminate.against: {path}: no record has {what}")
        self._items, self._sizes = np.array(items, np.int64), np.array(sizes, np.int64)

    def find(self, prompt: Prompt) -> Overlap | None:
        """Return the test item that a prompt holds most of, if that is enough to leave it out."""
        held = self._table.find_all(self._grams(conversation_text(prompt.messages)))
        if not len(held):
            return None
        items, counts = np.unique(held, return_counts=True)
        shares = counts / self._sizes[items]
        best = int(shares.argmax())
        if shares[best] < self._threshold:
            return None
        return Overlap(self._places.text(int(self._items[items[best]])), float(shares[best]))

    def _grams(self, text: str) -> npt.NDArray[np.uint64]:
        """Hashes of the different n-grams; of all words together where they are fewer than n."""
        said = words(text)
        size = min(self._ngram, len(said))
        grams = {hash_text(" ".join(said[at : at + size])) for at in range(len(said) - size + 1)}
        return np.array(sorted(grams), np.uint64)


def _texts(record: Any, columns: tuple[str, ...] | None) -> Iterator[str]:
    """Yield the texts of a record, each a test item of its own: no prompt holds the answer too."""
    values = record
    if columns is not None and isinstance(record, Mapping):
        values = [find_column(record, column) for column in columns]
    yield from (text for text in all_text(values) if text.strip())
