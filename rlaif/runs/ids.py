"""Compact sets of ids: 12 bytes a row id (a Python set takes about 100), and a Bloom filter."""

import mmap
import struct
from bisect import bisect_left
from collections.abc import Container, Iterable, Sized
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlaif.errors import RunError

WIDTH = 16
"""Bytes of an id: content ids are 128 bits."""

_KEPT = 12
"""Bytes of an id that a set stores. Ids are hashes: two of a million agree in 96 bits with
probability 10⁻¹⁷, two of a billion with 10⁻¹¹."""

_GIVEN, _KIND = np.dtype(f"S{WIDTH}"), np.dtype(f"S{_KEPT}")
_FEW = 4096
_SHARE = 256
_PARTS = 64
_BOUNDS = np.array([bytes([number * 256 // _PARTS]) for number in range(_PARTS)], _KIND)
"""The first id of every part."""

FILTER_BYTES = 8 << 20
"""False positives: 1 in 10⁶ lookups with half a million keys, 1 in 500 with 4 million, nearly all
with 50 million."""

_PLACE = 8 * FILTER_BYTES - 1
_words = struct.Struct("<4I").unpack


class IdSet(Container[bytes], Sized):
    """A growing set of 16-byte ids for membership tests; it cannot list its ids.

    Recent ids, 4,096 or one in 256, are kept in an ordinary set and then merged into sorted arrays:
    one for each 64th of the ids, so that a merge copies little at a time. One thread may add while
    others test: an id once added is always found.
    """

    __slots__ = ("_parts", "_recent", "_size")

    def __init__(self, ids: Iterable[bytes] = ()) -> None:
        self._parts: list[npt.NDArray[np.bytes_]] = [np.empty(0, _KIND)] * _PARTS
        self._recent: set[bytes] = set()
        self._size = 0
        self.update(b"".join(ids))

    def update(self, joined: bytes) -> None:
        """Add many ids, concatenated without separators."""
        if len(joined) % WIDTH:
            raise ValueError(
                f"ids have {WIDTH} bytes each; {len(joined)} bytes are not a multiple of that"
            )
        given = np.frombuffer(joined, _GIVEN).astype(_KIND)
        more = np.append(given, np.frombuffer(b"".join(self._recent), _KIND))
        more.sort()
        ends = np.append(more.searchsorted(_BOUNDS), len(more))
        for number in range(_PARTS):
            if ends[number] < ends[number + 1]:
                part = self._parts[number]
                merged = _merge(part, more[ends[number] : ends[number + 1]])
                self._parts[number] = merged
                self._size += len(merged) - len(part)
        # Last, because other threads test the recent ids first.
        self._recent = set()

    def add(self, row_id: bytes) -> bool:
        """Add one id; return False if the set has it already."""
        if row_id in self:
            return False
        self._recent.add(row_id[:_KEPT])
        if len(self._recent) >= max(_FEW, self._size // _SHARE):
            self.update(b"")
        return True

    def count_common(self, other: "IdSet") -> int:
        """Return how many ids are in both sets."""
        for one in (self, other):
            one.update(b"")
        parts = zip(self._parts, other._parts, strict=True)
        return sum(len(np.intersect1d(*pair, assume_unique=True)) for pair in parts)

    def __contains__(self, row_id: object) -> bool:
        if not isinstance(row_id, bytes) or len(row_id) != WIDTH:
            raise ValueError(f"an id is {WIDTH} bytes, not {row_id!r:.60}")
        kept = row_id[:_KEPT]
        if kept in self._recent:
            return True
        ids = self._parts[row_id[0] * _PARTS >> 8]
        kept = kept.rstrip(b"\0")  # as numpy returns an id
        # Not numpy's search, which lets other threads run first, for every id.
        place = bisect_left(ids, kept)
        return place < len(ids) and bool(ids[place] == kept)

    def __len__(self) -> int:
        return self._size + len(self._recent)


class KeyFilter:
    """A Bloom filter of 8 MiB over ledger keys: most keys are new, and need no disk access.

    B. H. Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970. Keys are hashes
    already, so the words of a key are its places. Any thread may test; only one at a time may add.
    """

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(FILTER_BYTES)

    def add(self, key: bytes) -> None:
        """Add a key of 16 bytes."""
        bits = self._bits
        for word in _words(key):
            place = word & _PLACE
            bits[place >> 3] |= 1 << (place & 7)

    def update(self, joined: bytes) -> None:
        """Add many keys, concatenated without separators."""
        places = np.frombuffer(joined, "<u4") & _PLACE
        masks = np.left_shift(1, places & 7).astype(np.uint8)
        np.bitwise_or.at(np.frombuffer(self._bits, np.uint8), places >> 3, masks)

    def may_hold(self, key: bytes) -> bool:
        """Return False if the key was certainly never added."""
        bits = self._bits
        for word in _words(key):
            place = word & _PLACE
            if not bits[place >> 3] >> (place & 7) & 1:
                return False
        return True


def _merge(part: npt.NDArray[np.bytes_], more: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bytes_]:
    """Merge two sorted arrays without duplicates."""
    merged = np.concatenate([part, more], out=_pages(len(part) + len(more)))
    merged.sort(kind="stable")  # fast here, because most of it is sorted already
    fresh = np.ones(len(merged), dtype=bool)
    fresh[1:] = merged[1:] != merged[:-1]
    count = int(np.count_nonzero(fresh))
    return merged if count == len(fresh) else np.compress(fresh, merged, out=_pages(count))


def _pages(count: int) -> npt.NDArray[np.bytes_]:
    """Allocate an array of ids in separate pages, which return to the system when it is freed.

    Not with malloc, which has a pool per thread: a set that several threads fill in turn would move
    from pool to pool, and two pools would be as large as the set.
    """
    pages = mmap.mmap(-1, count * _KEPT, flags=mmap.MAP_PRIVATE | mmap.MAP_ANON)
    return np.frombuffer(pages, _KIND, count)


def read_ids(path: Path) -> IdSet:
    """Read a file of ids, one after the other without separators; a missing file holds none.

    Raises:
        RunError: It cannot be read, or holds something else.
    """
    ids = IdSet()
    try:
        ids.update(path.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read ({error})", hint="delete it and repeat the command"
        ) from error
    return ids
