"""Sets of row ids that fit into memory: 12 bytes an id, where a Python set takes about 100."""

import mmap
from bisect import bisect_left
from collections.abc import Container, Iterable, Sized
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlaif.errors import RunError

WIDTH = 16
"""Bytes of an id: content ids are 128 bits."""

_KEPT = 12
"""Bytes of it that a set remembers. Ids are hashes: two of a million agree in 96 bits once in 10¹⁷
sets, two of a billion once in 10¹¹."""

_GIVEN, _KIND = np.dtype(f"S{WIDTH}"), np.dtype(f"S{_KEPT}")
_FEW = 4096
_SHARE = 256
_PARTS = 64
_BOUNDS = np.array([bytes([number * 256 // _PARTS]) for number in range(_PARTS)], _KIND)
"""The first id of every part."""


class IdSet(Container[bytes], Sized):
    """A growing set of 16-byte ids, which can be asked for ids but not list them.

    The ids added last, 4,096 or one in 256, are kept in an ordinary set and then merged into sorted
    arrays: one for every 64th of all ids, so that merging copies little at a time. One thread may
    add while others ask: an id once in is never missed.
    """

    __slots__ = ("_parts", "_recent", "_size")

    def __init__(self, ids: Iterable[bytes] = ()) -> None:
        self._parts: list[npt.NDArray[np.bytes_]] = [np.empty(0, _KIND)] * _PARTS
        self._recent: set[bytes] = set()
        self._size = 0
        self.update(b"".join(ids))

    def update(self, joined: bytes) -> None:
        """Add many ids, given one after the other without separators."""
        if len(joined) % WIDTH:
            raise ValueError(f"ids are {WIDTH} bytes each, so {len(joined)} bytes are not ids")
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
        # Last, because another thread that asks looks at the recent ids first.
        self._recent = set()

    def add(self, row_id: bytes) -> bool:
        """Add one id; False when it was there already."""
        if row_id in self:
            return False
        self._recent.add(row_id[:_KEPT])
        if len(self._recent) >= max(_FEW, self._size // _SHARE):
            self.update(b"")
        return True

    def __contains__(self, row_id: object) -> bool:
        if not isinstance(row_id, bytes) or len(row_id) != WIDTH:
            raise ValueError(f"an id is {WIDTH} bytes, not {row_id!r:.60}")
        wanted = row_id[:_KEPT]
        if wanted in self._recent:
            return True
        ids = self._parts[row_id[0] * _PARTS >> 8]
        wanted = wanted.rstrip(b"\0")  # as numpy gives an id out
        # Not numpy's own search, which lets another thread run first, for every id.
        place = bisect_left(ids, wanted)
        return place < len(ids) and bool(ids[place] == wanted)

    def __len__(self) -> int:
        return self._size + len(self._recent)


def _merge(part: npt.NDArray[np.bytes_], more: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bytes_]:
    """Two sorted arrays as one, every id once."""
    merged = np.concatenate([part, more], out=_pages(len(part) + len(more)))
    merged.sort(kind="stable")  # quick here, because most of it is sorted already
    fresh = np.ones(len(merged), dtype=bool)
    fresh[1:] = merged[1:] != merged[:-1]
    count = int(np.count_nonzero(fresh))
    return merged if count == len(fresh) else np.compress(fresh, merged, out=_pages(count))


def _pages(count: int) -> npt.NDArray[np.bytes_]:
    """Room for so many ids in pages of its own, which go back to the system when it is freed.

    Not from malloc, which has a pool for every thread: a set filled from one thread after another
    moves from pool to pool, and both are as large as the set until it has moved.
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
