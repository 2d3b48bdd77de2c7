"""A Bloom filter over the keys of a ledger: most questions are new, and need no look at the disk.

B. H. Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970. Keys are hashes
already, so the words of a key are its places.
"""

import struct

import numpy as np

FILTER_BYTES = 8 << 20
"""Half a million keys leave 1 strange key in 10⁶ to be looked up for nothing, 4 million 1 in 500,
50 million nearly all."""

_PLACE = 8 * FILTER_BYTES - 1
_words = struct.Struct("<4I").unpack


class KeyFilter:
    """Tells which keys have certainly not been added, in 8 MiB however many there are.

    Any thread may ask; only one at a time may add.
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
        """Add many keys, given one after the other without separators."""
        places = np.frombuffer(joined, "<u4") & _PLACE
        masks = np.left_shift(1, places & 7).astype(np.uint8)
        np.bitwise_or.at(np.frombuffer(self._bits, np.uint8), places >> 3, masks)

    def may_hold(self, key: bytes) -> bool:
        """False: the key was never added. True: it was, or it looks as if."""
        bits = self._bits
        for word in _words(key):
            place = word & _PLACE
            if not bits[place >> 3] >> (place & 7) & 1:
                return False
        return True
