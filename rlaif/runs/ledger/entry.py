"""An entry of the ledger: one reply and its cost, as a value and as stored; and their sums."""

import json
import math
import time
import zlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import orjson

from rlaif.records.plain import Plain

_KEY_BYTES = 16
_PLAIN = {str, int, bool, type(None)}
_MAPPING = (dict, Mapping)  # dict first: checking an abstract class is slow


@dataclass(frozen=True, slots=True)
class Entry:
    """One reply and its cost."""

    key: str
    """32 hex digits over everything that can change the reply."""

    purpose: str
    """Purpose of the call, such as ``sample`` or ``judge``."""

    engine: str
    """Label of the engine, such as ``student``."""

    reply: Mapping[str, Any]
    """The raw reply, JSON-compatible."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    price: float | None = None
    """Price of the call; None if unknown."""

    reused: bool = False
    """Copied from another run's ledger. Tokens and price are those of the other run; this run paid
    nothing."""

    created: float = field(default_factory=time.time)
    """Unix seconds of the reply."""


@dataclass(frozen=True, slots=True)
class Total(Plain):
    """Calls, tokens and price of one purpose and engine in this run.

    Every paid call counts, even if its reply was stored already.
    """

    purpose: str
    engine: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    price: float | None
    """Sum of the known prices; None if none is known."""

    unpriced: int
    """Calls with unknown price, not in ``price``."""

    reused: int
    """Replies copied from another run's ledger, not in the other numbers."""

    @property
    def cached_share(self) -> float | None:
        """Share of the prompt tokens read from a prefix cache; None if none is reported."""
        return self.cached_tokens / self.prompt_tokens if self.cached_tokens else None


class Account(NamedTuple):
    """Purpose, engine, and whether replies were copied from another run."""

    purpose: str
    engine: str
    reused: bool


class Call(NamedTuple):
    """One entry as stored."""

    key: bytes
    purpose: str
    engine: str
    reused: bool
    reply: bytes
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    price: float | None
    created: float
    checksum: int
    place: int = 0
    """Order of writing, from 1; 0 before that."""

    @property
    def account(self) -> Account:
        """The account that counts this call."""
        return Account(self.purpose, self.engine, bool(self.reused))


@dataclass(slots=True)
class Sums:
    """Sums of one account. A reply stored twice was paid twice, so it counts twice."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    price: float = 0.0
    """Price of the calls with known price."""

    unpriced: int = 0
    """Calls with unknown price."""

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def add(self, call: Call) -> None:
        """Count one call."""
        self.calls += 1
        self.prompt_tokens += call.prompt_tokens
        self.completion_tokens += call.completion_tokens
        self.cached_tokens += call.cached_tokens
        if call.price is None:
            self.unpriced += 1
        else:
            self.price += call.price


def sum_up(*parts: Mapping[Account, Sums]) -> dict[Account, Sums]:
    """Add up several accounts."""
    accounts: dict[Account, Sums] = {}
    for part in parts:
        for account, sums in part.items():
            accounts[account] = accounts.get(account, Sums()) + sums
    return accounts


def totals(accounts: Mapping[Account, Sums]) -> tuple[Total, ...]:
    """Return the totals of accounts, by purpose and engine, in order of first use."""
    names = dict.fromkeys((account.purpose, account.engine) for account in accounts)
    return tuple(
        _total(
            purpose,
            engine,
            accounts.get(Account(purpose, engine, False), Sums()),
            accounts.get(Account(purpose, engine, True), Sums()),
        )
        for purpose, engine in names
    )


def _total(purpose: str, engine: str, paid: Sums, copied: Sums) -> Total:
    return Total(
        purpose,
        engine,
        paid.calls,
        paid.prompt_tokens,
        paid.completion_tokens,
        paid.cached_tokens,
        paid.price if paid.calls > paid.unpriced else None,
        paid.unpriced,
        copied.calls,
    )


def key_bytes(key: str) -> bytes:
    """Return the 16 bytes of a key.

    Raises:
        ValueError: It is not 32 hex digits.
    """
    raw = bytes.fromhex(key)
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"a key has {2 * _KEY_BYTES} hex digits, not {key!r:.80}")
    return raw


def to_call(entry: Entry) -> Call:
    """Return an entry as stored, with a checksum over key and reply.

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
    """Return the entry of a stored call.

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
        pass  # half a character, or not JSON: then the last line raises, too
    else:
        # orjson writes infinity as null, which means unknown.
        if b"null" not in encoded or _is_finite(reply):
            # A copy, because the result of orjson keeps 8 KiB alive even if it is short.
            return bytes(memoryview(encoded))
    return json.dumps(reply, separators=(",", ":")).encode()


def _decode(reply: bytes) -> dict[str, Any]:
    try:
        return dict(orjson.loads(reply))
    except orjson.JSONDecodeError:
        return dict(json.loads(reply))


def _is_finite(value: Any) -> bool:
    """Whether strict JSON can represent the value: no NaN and no infinity."""
    for item in value.values() if isinstance(value, _MAPPING) else value:
        if isinstance(item, float):
            if not math.isfinite(item):
                return False
        elif type(item) not in _PLAIN and not _is_finite(item):
            return False
    return True
