"""An entry of the ledger: one reply and what it took, as a value and as the file holds it."""

import json
import math
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from rlaif.records.plain import Plain
from rlaif.runs.ledger.file import Call

_KEY_BYTES = 16
_PLAIN = {str, int, bool, type(None)}
_MAPPING = (dict, Mapping)  # dict first: asking an abstract class is dear


@dataclass(frozen=True, slots=True)
class Entry:
    """One reply and what it took to get it."""

    key: str
    """32 hex digits over everything that can change the reply."""

    purpose: str
    """What it was asked for, such as ``sample`` or ``judge``."""

    engine: str
    """Label of the engine that answered, such as ``student``."""

    reply: Mapping[str, Any]
    """The raw reply, JSON-compatible."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    price: float | None = None
    """What asking cost; None when no price is known."""

    reused: bool = False
    """Copied from another run's ledger. Tokens and price are then what the other run paid; this
    one paid nothing."""

    created: float = field(default_factory=time.time)
    """Unix seconds at which the reply came."""


@dataclass(frozen=True, slots=True)
class Total(Plain):
    """What one purpose asked of one engine in this run.

    Every paid call counts, also one whose reply was there already.
    """

    purpose: str
    engine: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    price: float | None
    """Sum of the known prices; None when no call has one."""

    unpriced: int
    """Calls whose price is not known: not in ``price``."""

    reused: int
    """Replies copied from another run's ledger, in none of the other numbers."""

    @property
    def cached_share(self) -> float | None:
        """Share of the prompt tokens that came from a prefix cache; None when none is reported."""
        return self.cached_tokens / self.prompt_tokens if self.cached_tokens else None


def key_bytes(key: str) -> bytes:
    """Return the 16 bytes a key is written with.

    Raises:
        ValueError: It is not 32 hex digits.
    """
    found = bytes.fromhex(key)
    if len(found) != _KEY_BYTES:
        raise ValueError(f"a key has {2 * _KEY_BYTES} hex digits, not {key!r:.80}")
    return found


def to_call(entry: Entry) -> Call:
    """Return an entry as the file holds it, with a checksum over key and reply.

    Raises:
        TypeError: The reply is not JSON-compatible.
    """
    key, reply = key_bytes(entry.key), _encode(entry.reply)
    return Call(
        key,
        entry.purpose,
        entry.engine,
        entry.reused,
        reply,
        entry.prompt_tokens,
        entry.completion_tokens,
        entry.cached_tokens,
        entry.price,
        entry.created,
        zlib.crc32(reply, zlib.crc32(key)),
    )


def from_call(call: Call) -> Entry:
    """Read what `to_call` made.

    Raises:
        ValueError: The reply does not match its checksum.
    """
    if zlib.crc32(call.reply, zlib.crc32(call.key)) != call.checksum:
        raise ValueError(f"the reply of {call.key.hex()} does not match its checksum")
    return Entry(
        call.key.hex(),
        call.purpose,
        call.engine,
        _decode(call.reply),
        call.prompt_tokens,
        call.completion_tokens,
        call.cached_tokens,
        call.price,
        bool(call.reused),
        call.created,
    )


def _encode(reply: Mapping[str, Any]) -> bytes:
    try:
        encoded = orjson.dumps(reply)
    except TypeError:
        pass  # half a character, or no JSON at all: then the last line raises as well
    else:
        # It writes infinity as null, which means unknown.
        if b"null" not in encoded or _is_finite(reply):
            # A copy, because what orjson returns keeps 8 KiB alive however short it is.
            return bytes(memoryview(encoded))
    return json.dumps(reply, separators=(",", ":")).encode()


def _decode(reply: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(reply)
    except orjson.JSONDecodeError:
        found = json.loads(reply)
    return dict(found)


def _is_finite(value: Any) -> bool:
    """Whether strict JSON can say it."""
    for item in value.values() if isinstance(value, _MAPPING) else value:
        if isinstance(item, float):
            if not math.isfinite(item):
                return False
        elif type(item) not in _PLAIN and not _is_finite(item):
            return False
    return True
