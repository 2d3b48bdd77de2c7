"""Sets of row ids that fit into memory: 16 bytes an id, where a Python set takes about 100."""

from collections.abc import Iterable, Iterator, Set

import numpy as np
import numpy.typing as npt

WIDTH = 16
"""Bytes of an id: content ids are 128 bits."""

_FEW = 4096


class IdSet(Set[bytes]):
    """A growing set of 16-byte ids.

    Ids added last are kept in an ordinary set and merged into a sorted array now and then.
    One thread may add while others ask: an id once in is never missed.
    """

    __slots__ = ("_recent", "_sorted")

    def __init__(self, ids: Iterable[bytes] = ()) -> None:
        self._sorted: npt.NDArray[np.bytes_] = np.empty(0, dtype=f"S{WIDTH}")
        self._recent: set[bytes] = set()
        self.update(b"".join(ids))

    def update(self, joined: bytes) -> None:
        """Add many ids, given one after the other without separators."""
        if len(joined) % WIDTH:
            raise ValueError(f"ids are {WIDTH} bytes each, so {len(joined)} bytes are not ids")
        more = np.frombuffer(joined + b"".join(self._recent), dtype=self._sorted.dtype)
        if not len(more):
            return
        merged = np.concatenate([self._sorted, more])
        merged.sort(kind="stable")  # quick here, because most of it is sorted already
        fresh = np.ones(len(merged), dtype=bool)
        fresh[1:] = merged[1:] != merged[:-1]
        # In this order, because another thread that asks looks at the recent ids first.
        self._sorted = merged if fresh.all() else merged[fresh]
        self._recent = set()

    def add(self, row_id: bytes) -> bool:
        """Add one id; False when it was there already."""
        if row_id in self:
            return False
        self._recent.add(row_id)
        if len(self._recent) >= max(_FEW, len(self._sorted) // 16):
            self.update(b"")
        return True

    def __contains__(self, row_id: object) -> bool:
        if not isinstance(row_id, bytes) or len(row_id) != WIDTH:
            raise ValueError(f"an id is {WIDTH} bytes, not {row_id!r:.60}")
        if row_id in self._recent:
            return True
        # An array of one, because numpy would convert all ids to the type of a bare bytes object.
        wanted = np.frombuffer(row_id, dtype=self._sorted.dtype)
        ids = self._sorted
        place = int(ids.searchsorted(wanted)[0])
        return place < len(ids) and bool(ids[place] == wanted[0])

    def __iter__(self) -> Iterator[bytes]:
        # Cut by hand, because numpy's own items lose trailing zero bytes.
        joined = self._sorted.tobytes()
        yield from (joined[start : start + WIDTH] for start in range(0, len(joined), WIDTH))
        yield from tuple(self._recent)

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)
