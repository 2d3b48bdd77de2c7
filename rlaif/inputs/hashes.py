"""Normalised text, its hashes, and compact tables of hashes."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlaif.records import Message
from rlaif.records.marks import split_marks
from rlaif.records.tool_use import spoken

# In scripts written without spaces each character is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")
_FEW = 1024


def words(text: str) -> list[str]:
    """Return the words of a text, NFKC-normalised, without case and punctuation.

    A text without words, such as one of symbols only, is one word.
    """
    plain = unicodedata.normalize("NFKC", split_marks(text)).casefold()
    return _WORD.findall(plain) or [plain.strip()]


def conversation_text(messages: Sequence[Message]) -> str:
    """Return the text of all messages of a conversation."""
    return "\n".join(message["content"] for message in spoken(messages))


def hash_text(text: str) -> int:
    """Return 64 bits of BLAKE2b; a million texts collide once in 40 million times."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class HashTable:
    """Maps 64-bit hashes to one or more numbers, 16 bytes an entry.

    Recent entries are in a dict and are merged into sorted arrays from time to time.
    """

    __slots__ = ("_count", "_hashes", "_numbers", "_recent")

    def __init__(self) -> None:
        self._hashes: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._numbers: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._recent: dict[int, list[int]] = {}
        self._count = 0

    def add(self, key: int, number: int) -> None:
        """Add an entry; a hash may have several."""
        self._recent.setdefault(key, []).append(number)
        self._count += 1
        if self._count >= max(_FEW, len(self._hashes) // 64):
            self._merge()

    def find(self, key: int) -> list[int]:
        """Return the numbers of a hash, in the order of adding."""
        hashed = np.uint64(key)
        start = int(self._hashes.searchsorted(hashed))
        end = start
        while end < len(self._hashes) and self._hashes[end] == hashed:
            end += 1
        return [*self._numbers[start:end].tolist(), *self._recent.get(key, ())]

    def find_all(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the numbers of all these hashes, one after another."""
        self._merge()
        starts = self._hashes.searchsorted(keys, "left")
        lengths = self._hashes.searchsorted(keys, "right") - starts
        before = np.cumsum(lengths) - lengths
        places = np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
        return self._numbers[places]

    def __len__(self) -> int:
        return len(self._hashes) + self._count

    def _merge(self) -> None:
        if not self._recent:
            return
        pairs = [(key, number) for key, numbers in self._recent.items() for number in numbers]
        hashes = np.concatenate([self._hashes, np.array([k for k, _ in pairs], np.uint64)])
        numbers = np.concatenate([self._numbers, np.array([n for _, n in pairs], np.int64)])
        order = hashes.argsort(kind="stable")  # fast here, because most of it is sorted already
        self._hashes, self._numbers = hashes[order], numbers[order]
        self._recent, self._count = {}, 0
