"""Identity: ids and seeds derived from content, never from position, order or a clock.

Two processes, eight workers and a resumed run all derive the same values, so a resumed run may use
other shards or another executor.
"""

import hashlib
from typing import Any

import orjson


def canonical_json(value: Any) -> bytes:
    """Encode a JSON-compatible value so that equal values give equal bytes (keys sorted)."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def content_id(kind: str, *parts: Any) -> str:
    """Return 32 hex digits (BLAKE2b-128) that identify ``parts`` within ``kind``.

    Parts are JSON-encoded, so ``("a", "bc")`` and ``("ab", "c")`` differ.
    """
    digest = hashlib.blake2b(canonical_json([kind, *parts]), digest_size=16)
    return digest.hexdigest()


def content_seed(seed: int, *parts: Any) -> int:
    """Return a seed in [0, 2³¹) derived from ``seed`` and ``parts``."""
    digest = hashlib.blake2b(canonical_json([seed, *parts]), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 33


def content_uniform(seed: int, *parts: Any) -> float:
    """Return a number in (0, 1) derived from ``seed`` and ``parts``; never exactly 0 or 1."""
    digest = hashlib.blake2b(canonical_json([seed, *parts]), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52
