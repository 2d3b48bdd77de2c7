"""Prompts that repeat an earlier one: exactly, or nearly (MinHash over n-grams of characters).

The first in the order of input stays, so that equal input gives equal output, after a restart too.
Exact ones are known by a hash, 16 bytes a prompt; near ones by a signature, some 600 bytes more.

The signatures and the choice of bands are datasketch's. Its index is not used: it keeps Python sets
of bytes, several kilobytes a prompt, where these tables keep 16 bytes a band
(docs/decisions/0020-near-duplicates.md).
"""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlaif.config.prompts import DedupConfig
from rlaif.errors import EngineMissing
from rlaif.inputs.hashes import HashTable, conversation_text, hash_text, words
from rlaif.records import Prompt, canonical_json
from rlaif.records.tool_use import spoken

_BLOCK = 4096
"""Signatures are kept in blocks of so many, because a growing array would be copied."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """What a prompt repeats."""

    place: int
    """The number that was given with the earlier prompt."""

    similarity: float | None
    """Estimated Jaccard similarity of the n-grams; None for an exact duplicate."""


class Duplicates:
    """Remembers prompts and finds those that repeat one.

    Raises:
        EngineMissing: Near duplicates are asked for and datasketch is not installed.
    """

    def __init__(self, config: DedupConfig) -> None:
        self._exact = HashTable()
        self._near = _Near(config) if config.method == "near" else None

    def find_or_add(self, prompt: Prompt, place: int) -> Repetition | None:
        """Return what a prompt repeats; when it repeats nothing, remember it."""
        messages = spoken(prompt.messages)
        turns = [[message["role"], message["content"].split()] for message in messages]
        key = hash_text(canonical_json(turns).decode())
        if found := self._exact.find(key):
            return Repetition(found[0], None)
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
        # 16 bits of each value are enough to compare: two meet by chance once in 65536 times.
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
    """Return number and width of the bands: rather a candidate too many, as each is checked."""
    number = config.permutations
    try:
        chosen = sketch.MinHashLSH(threshold=config.threshold, num_perm=number, weights=(0.1, 0.9))
    except ValueError:  # near a threshold of 1 the best is one band, which datasketch refuses
        return 2, number // 2
    return chosen.b, chosen.r
