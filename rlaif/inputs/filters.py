"""Filters: prompts that repeat an earlier one, and prompts that contain evaluation data.

**Duplicates**, exact or near (MinHash over n-grams of characters): the first in the order of input
stays, so that equal input gives equal output, after a restart too. Exact ones are recognised by a
hash, 16 bytes a prompt; near ones by a signature, some 600 bytes more. Signatures and bands come
from datasketch. Its index is not used: it keeps Python sets of bytes, several kilobytes a prompt,
where these tables keep 16 bytes a band (docs/decisions/0020-near-duplicates.md).

**Contamination**, overlap of word n-grams: a prompt is left out when it contains at least a given
share of the n-grams of one test item, as in Tülu 3 (arXiv 2411.15124: 8-grams, one half). Every
text of a test record is an item. Only hashes of the evaluation sets are kept, 16 bytes an n-gram.
"""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlaif.config.prompts import DecontaminateConfig, DedupConfig
from rlaif.errors import EngineMissing, RecordError
from rlaif.inputs.columns import all_text, find_column
from rlaif.inputs.files import Broken
from rlaif.inputs.hashes import HashTable, conversation_text, hash_text, words
from rlaif.inputs.places import Places, read_path
from rlaif.records import Prompt, canonical_json
from rlaif.records.tool_use import spoken

_BLOCK = 4096
"""Signatures in one array: one growing array would be copied again and again."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """The earlier prompt that a prompt repeats."""

    place: int
    """The ``place`` given with the earlier prompt."""

    similarity: float | None
    """Estimated Jaccard similarity of the n-grams; None for an exact duplicate."""


class Duplicates:
    """Remembers prompts and finds those that repeat one.

    Raises:
        EngineMissing: The method is near and datasketch is not installed.
    """

    def __init__(self, config: DedupConfig) -> None:
        self._exact = HashTable()
        self._near = _Near(config) if config.method == "near" else None

    def find_or_add(self, prompt: Prompt, place: int) -> Repetition | None:
        """Return the earlier prompt that this one repeats; if there is none, remember this one."""
        messages = spoken(prompt.messages)
        turns = [[message["role"], message["content"].split()] for message in messages]
        key = hash_text(canonical_json(turns).decode())
        if places := self._exact.find(key):
            return Repetition(places[0], None)
        if self._near is not None:
            near = self._near.find_or_add(conversation_text(prompt.messages), place)
            if near is not None:
                return near
        self._exact.add(key, place)
        return None


class _Near:
    """Locality-sensitive hashing of MinHash signatures, every candidate checked (Broder 1997)."""

    def __init__(self, config: DedupConfig) -> None:
        try:
            sketch: Any = importlib.import_module("datasketch")
        except ImportError:
            raise EngineMissing(
                "prompts.dedup.method: near needs the datasketch library",
                hint="pip install 'constitutional-rlaif[inputs]'",
            ) from None
        self._threshold, self._ngram = config.threshold, config.ngram
        self._empty = sketch.MinHash(num_perm=config.permutations)
        bands, self._width = _bands(sketch, config)
        self._bands = [HashTable() for _ in range(bands)]
        self._places: list[npt.NDArray[np.int64]] = []
        self._signatures: list[npt.NDArray[np.uint16]] = []
        self._count = 0

    def find_or_add(self, text: str, place: int) -> Repetition | None:
        signature = self._signature(text)
        keys = [
            hash_text(signature[start : start + self._width].tobytes().hex())
            for start in range(0, len(self._bands) * self._width, self._width)
        ]
        # 16 bits of each value suffice: two are equal by chance once in 65536 times.
        short = (signature & 0xFFFF).astype(np.uint16)
        banded = zip(self._bands, keys, strict=True)
        candidates = {number for table, key in banded for number in table.find(key)}
        best = max(((self._similarity(short, n), -n) for n in candidates), default=(0.0, 0))
        if best[0] >= self._threshold:
            block, row = divmod(-best[1], _BLOCK)
            return Repetition(int(self._places[block][row]), best[0])
        self._add(short, keys, place)
        return None

    def _signature(self, text: str) -> npt.NDArray[np.uint32]:
        plain = " ".join(words(text))
        size = self._ngram
        grams = {plain[at : at + size] for at in range(max(1, len(plain) - size + 1))}
        sketch = self._empty.copy()
        sketch.update_batch([gram.encode("utf-8", "surrogatepass") for gram in grams])
        values: npt.NDArray[np.uint32] = sketch.hashvalues
        return values

    def _similarity(self, short: npt.NDArray[np.uint16], number: int) -> float:
        block, row = divmod(number, _BLOCK)
        return float(np.mean(self._signatures[block][row] == short))

    def _add(self, short: npt.NDArray[np.uint16], keys: list[int], place: int) -> None:
        block, row = divmod(self._count, _BLOCK)
        if row == 0:
            self._signatures.append(np.empty((_BLOCK, len(short)), np.uint16))
            self._places.append(np.empty(_BLOCK, np.int64))
        self._signatures[block][row], self._places[block][row] = short, place
        for table, key in zip(self._bands, keys, strict=True):
            table.add(key, self._count)
        self._count += 1


def _bands(sketch: Any, config: DedupConfig) -> tuple[int, int]:
    """Return number and width of the bands; they favour recall, as each candidate is checked."""
    number = config.permutations
    try:
        chosen = sketch.MinHashLSH(threshold=config.threshold, num_perm=number, weights=(0.1, 0.9))
    except ValueError:  # near a threshold of 1 the best is one band, which datasketch rejects
        return 2, number // 2
    return chosen.b, chosen.r


@dataclass(frozen=True, slots=True)
class Overlap:
    """The overlap of a prompt with an evaluation set."""

    item: str
    """File and line of the test item."""

    share: float
    """Share of the item's n-grams that the prompt contains, in (0, 1]."""


class Contamination:
    """The n-grams of evaluation sets.

    Raises:
        RecordError: A set cannot be read, contains no text, or has none of the columns.
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
                    # Prompts would not be checked against a skipped test item.
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
        """Return the test item with the largest overlap, if that reaches the threshold."""
        matches = self._table.find_all(self._grams(conversation_text(prompt.messages)))
        if not len(matches):
            return None
        items, counts = np.unique(matches, return_counts=True)
        shares = counts / self._sizes[items]
        best = int(shares.argmax())
        if shares[best] < self._threshold:
            return None
        return Overlap(self._places.text(int(self._items[items[best]])), float(shares[best]))

    def _grams(self, text: str) -> npt.NDArray[np.uint64]:
        """Return hashes of the different n-grams; of the whole text if it has fewer words."""
        text_words = words(text)
        size = min(self._ngram, len(text_words))
        starts = range(len(text_words) - size + 1)
        grams = {hash_text(" ".join(text_words[at : at + size])) for at in starts}
        return np.array(sorted(grams), np.uint64)


def _texts(record: Any, columns: tuple[str, ...] | None) -> Iterator[str]:
    """Yield the texts of a record. Each is a test item: prompts do not contain the answer."""
    values = record
    if columns is not None and isinstance(record, Mapping):
        values = [find_column(record, column) for column in columns]
    yield from (text for text in all_text(values) if text.strip())
