"""The key-value cache of the rows that are being decoded together.

All rows end at the same column and start where their length says; what lies to the left of a short
row is padding that the mask hides. Two kinds:

- `JoinableRows`, for models whose layers all attend to everything: one preallocated buffer per
  layer, written in place. Rows come and go at any time. (Growing a cache by concatenation, as
  transformers does, copies all of it for every token: most of a decoding step on a CPU.)
- `FixedRows`, for all others (sliding windows, recurrent layers): the model's own cache. Rows
  start together; those that are finished can leave.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 256  # columns allocated ahead


class Rows(Protocol):
    """Rows in the order they were added, as `drop` may change it."""

    joinable: bool
    """Whether rows can be added while others are there."""

    lengths: list[int]
    """Tokens in the cache, per row."""

    @property
    def cache(self) -> Any:
        """What the model's forward takes as ``past_key_values``."""
        ...

    @property
    def width(self) -> int:
        """Columns, padding included."""
        ...

    def add(self, source: Any, picks: Sequence[int], lengths: Sequence[int], width: int) -> None:
        """Take over rows of a cache that `Forward.prefill` has filled.

        Args:
            source: The filled cache.
            picks: Which row of it each new row starts from; one may be picked several times.
            lengths: Tokens of each new row.
            width: Columns of the source, padding included.
        """
        ...

    def drop(self, kept: Sequence[int]) -> list[int]:
        """Keep these rows only; return them in their new order."""
        ...

    def advance(self) -> None:
        """Count the column that the last forward pass has written."""
        ...


def is_joinable(config: Any) -> bool:
    """Whether every layer attends to all that came before, so that rows may be shifted."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def new_rows(config: Any) -> Rows:
    """Return an empty cache of the right kind for a model."""
    return JoinableRows(config) if is_joinable(config) else FixedRows(config)


def padding_mask(rows: Rows, device: torch.device) -> torch.Tensor:
    """Return (rows, width + 1), true where a token stands, the next one included."""
    padding = torch.tensor([rows.width - length for length in rows.lengths], device=device)
    return torch.arange(rows.width + 1, device=device)[None, :] >= padding[:, None]


class _Window:
    """Which part of the buffers holds the rows: shared by all layers."""

    def __init__(self) -> None:
        self.rows = 0
        self.start = 0
        self.stop = 0


class _WindowLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer whose keys and values are the window's part of a larger buffer."""

    def __init__(self, window: _Window) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._window = window
        self._keys = self._values = torch.empty((0, 0, 0, 0))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new column behind the window; return the window with it."""
        window = self._window
        stop = window.stop + key_states.shape[-2]
        self._keys[: window.rows, :, window.stop : stop] = key_states
        self._values[: window.rows, :, window.stop : stop] = value_states
        part = (slice(window.rows), slice(None), slice(window.start, stop))
        return self._keys[part], self._values[part]

    def get_seq_length(self) -> int:
        """Columns of the window."""
        return self._window.stop - self._window.start

    def shape(self) -> tuple[int, int]:
        """Rows and columns of the buffer."""
        return self._keys.shape[0], self._keys.shape[2]

    def make_room(self, *, rows: int, columns: int, at: int, like: Any = None) -> None:
        """Move to a larger buffer, with the window's columns starting at ``at``.

        ``like`` is a filled layer of the same model; None once this one has a buffer.
        """
        keys, values = (self._keys, self._values) if like is None else (like.keys, like.values)
        self._keys = self._moved(self._keys, keys, (rows, columns), at)
        self._values = self._moved(self._values, values, (rows, columns), at)

    def _moved(
        self, old: torch.Tensor, like: torch.Tensor, shape: tuple[int, int], at: int
    ) -> torch.Tensor:
        (rows, columns), (_, heads, _, size) = shape, like.shape
        # Zeros, not garbage: padding has weight 0 in attention, and 0 times NaN is NaN.
        fresh = like.new_zeros((rows, heads, columns, size))
        window = self._window
        if window.rows:
            used = old[: window.rows, :, window.start : window.stop]
            fresh[: window.rows, :, at : at + used.shape[-2]] = used
        return fresh

    def put(self, source: Any, picks_B: torch.Tensor, columns_BT: torch.Tensor) -> None:
        """Copy rows of a filled layer behind the window's, so that they end at its last column.

        ``columns_BT`` says which of the source's columns goes to each of the window's last T.
        """
        (count, width), window = columns_BT.shape, self._window
        rows, stop = slice(window.rows, window.rows + count), window.stop
        heads = torch.arange(source.keys.shape[1], device=picks_B.device)[None, :, None]
        place = (picks_B[:, None, None], heads, columns_BT[:, None, :])
        self._keys[rows, :, stop - width : stop] = source.keys[place]
        self._values[rows, :, stop - width : stop] = source.values[place]

    def move(self, source: int, target: int) -> None:
        """Copy one row over another."""
        part = (slice(None), slice(self._window.start, self._window.stop))
        for mine in (self._keys, self._values):
            mine[target][part] = mine[source][part]


class JoinableRows:
    """Rows that come and go: see the top of this file."""

    joinable = True

    def __init__(self, config: Any) -> None:
        self._window = _Window()
        self._cache = DynamicCache(config=config)
        self._layers = [_WindowLayer(self._window) for _ in self._cache.layers]
        self._cache.layers = list(self._layers)
        self.lengths: list[int] = []

    @property
    def cache(self) -> Any:
        """The window, as the model sees it."""
        return self._cache

    @property
    def width(self) -> int:
        """Of the window: the longest row."""
        return self._window.stop - self._window.start

    def add(self, source: Any, picks: Sequence[int], lengths: Sequence[int], width: int) -> None:
        """Copy rows, which start at the source's first column, behind those that are there."""
        del width  # what lies right of a row is not copied
        widest = max(lengths)
        self._reserve(len(picks), max(widest, self.width), source.layers)
        device = source.layers[0].keys.device
        ends_B = torch.tensor(list(lengths), device=device)
        # To the left of a short row stands some copy of its first column: padding must be finite.
        columns_BT = torch.arange(-widest, 0, device=device)[None, :] + ends_B[:, None]
        columns_BT = columns_BT.clamp(min=0)
        picks_B = torch.tensor(list(picks), device=device)
        for mine, theirs in zip(self._layers, source.layers, strict=True):
            mine.put(theirs, picks_B, columns_BT)
        self._window.rows += len(picks)
        self.lengths += lengths
        self._trim()

    def drop(self, kept: Sequence[int]) -> list[int]:
        """Move the last rows into the places of those that leave: nothing else is copied."""
        order = list(range(len(kept)))
        holes = sorted(set(order) - set(kept))
        for target, source in zip(holes, (row for row in kept if row >= len(kept)), strict=True):
            for layer in self._layers:
                layer.move(source, target)
            order[target] = source
        self.lengths = [self.lengths[row] for row in order]
        self._window.rows = len(order)
        self._trim()
        return order

    def advance(self) -> None:
        """Widen the window by the column just written, and see that there is a next one."""
        self._window.stop += 1
        self.lengths = [length + 1 for length in self.lengths]
        self._reserve(0, self.width, [None] * len(self._layers))

    def _trim(self) -> None:
        self._window.start = self._window.stop - max(self.lengths, default=0)

    def _reserve(self, more_rows: int, width: int, like: Sequence[Any]) -> None:
        """See that so many rows fit, that the window can be so wide, and one column more."""
        window = self._window
        rows, columns = self._layers[0].shape()
        needed = window.rows + more_rows
        if needed <= rows and width <= window.stop < columns:
            return
        at = width - self.width
        for layer, example in zip(self._layers, like, strict=True):
            layer.make_room(rows=max(needed, rows), columns=width + _ROOM, at=at, like=example)
        window.start, window.stop = at, width


class FixedRows:
    """Rows that start together, in the model's own kind of cache."""

    joinable = False

    def __init__(self, config: Any) -> None:
        self._cache = DynamicCache(config=config)
        self._width = 0
        self.lengths: list[int] = []

    @property
    def cache(self) -> Any:
        """The model's own."""
        return self._cache

    @property
    def width(self) -> int:
        """Columns since the start; layers with a window keep fewer."""
        return self._width

    def add(self, source: Any, picks: Sequence[int], lengths: Sequence[int], width: int) -> None:
        """Take over the cache itself, whose rows end at its last column.

        Raises:
            ValueError: There are rows already.
        """
        if self.lengths:
            raise ValueError("rows of this model can only start together")
        self._cache = source
        self._width = width
        self.lengths = list(lengths)
        self._select(picks)

    def drop(self, kept: Sequence[int]) -> list[int]:
        """Copy what is kept, in its order."""
        self.lengths = [self.lengths[row] for row in kept]
        self._select(kept)
        return list(kept)

    def advance(self) -> None:
        """Count one column."""
        self._width += 1
        self.lengths = [length + 1 for length in self.lengths]

    def _select(self, rows: Sequence[int]) -> None:
        # Made for beam search, and the one selection that every kind of layer has.
        self._cache.reorder_cache(torch.tensor(list(rows), dtype=torch.long))  # type: ignore[arg-type]
