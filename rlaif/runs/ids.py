"""Sets of row ids that fit into memory: 16 bytes an id, where a Python set takes about 100."""

from collections.abc import Iterable, Iterator, Set

import numpy as np
import numpy.typing as npt

WIDTH = 16
"""Bytes of an id: content ids are 128 bits."""

_KIND = np.dtype(f"S{WIDTH}")
_FEW = 4096
_PARTS = 64
_BOUNDS = np.array([bytes([number * 256 // _PARTS]) for number in range(_PARTS)], _KIND)
"""The first id of every part."""


class IdSet(Set[bytes]):
    """A growing set of 16-byte ids.

    Ids added last are kept in an ordinary set and merged into sorted arrays now and then: one for
    every 64th of all ids, so that merging copies little at a time. One thread may add while others
    ask: an id once in is never missed.
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
        more = np.sort(np.frombuffer(joined + b"".join(self._recent), dtype=_KIND))
        ends = np.append(more.searchsorted(_BOUNDS), len(more))
        for number in range(_PARTS):
            if ends[number] < ends[number + 1]:
                part = self._parts[number]
                merged = np.concatenate([part, more[ends[number] : ends[number + 1]]])
                merged.sort(kind="stable")  # quick here, because most of it is sorted already
                fresh = np.ones(len(merged), dtype=bool)
                fresh[1:] = merged[1:] != merged[:-1]
                merged = merged if fresh.all() else merged[fresh]
                self._parts[number] = merged
                self._size += len(merged) - len(part)
        # Last, because another thread that asks looks at the recent ids first.
        self._recent = set()

    def add(self, row_id: bytes) -> bool:
        """Add one id; False when it was there already."""
        if row_id in self:
            return False
        self._recent.add(row_id)
        if len(self._recent) >= max(_FEW, self._size // _PARTS):
            self.update(b"")
        return True

    def __contains__(self, row_id: object) -> bool:
        if not isinstance(row_id, bytes) or len(row_id) != WIDTH:
            raise ValueError(f"an id is {WIDTH} bytes, not {row_id!r:.60}")
        if row_id in self._recent:
            return True
        # An array of one, because numpy would convert all ids to the type of a bare bytes object.
        wanted = np.frombuffer(row_id, dtype=_KIND)
        ids = self._parts[row_id[0] * _PARTS >> 8]
        place = int(ids.searchsorted(wanted)[0])
        return place < len(ids) and bool(ids[place] == wanted[0])

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            # Cut by hand, because numpy's own items lose trailing zero bytes.
            joined = part.tobytes()
            yield from (joined[start : start + WIDTH] for start in range(0, len(joined), WIDTH))
        yield from tuple(self._recent)

    def __len__(self) -> int:
        return self._size + len(self._recent)
