"""An engine in place of one that must not be asked: the ledger answers, or nothing does."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlaif.engines import Capability, Reply, Request
from rlaif.errors import CallFailed

NOT_RECORDED = "not-recorded"
"""The kind of a call that a `ReplayOnlyEngine` was asked for."""


class ReplayOnlyEngine:
    """An engine that refuses to be asked: whatever it is asked for must be in a ledger.

    Args:
        identity: Of the engine whose replies the ledger holds; it is part of their keys.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self._identity = dict(identity)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What it was given."""
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All: what could be asked was asked already."""
        return frozenset(Capability)

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Refuse.

        Raises:
            CallFailed: Always.
        """
        raise CallFailed(
            f"the ledger holds no reply to this {type(request).__name__.lower()} request",
            kind=NOT_RECORDED,
        )

    async def aclose(self) -> None:
        """Nothing to close."""
