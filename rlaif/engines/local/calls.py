"""Calls under way: what was asked for, its way through a worker, and how the answer gets back."""

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from rlaif.engines.protocol import Reply, Sampling
from rlaif.errors import CallFailed


class PendingCall:
    """One call. Its answer may come from any thread; the caller may have been cancelled.

    Args:
        replies: How many replies the call expects.
    """

    def __init__(self, replies: int) -> None:
        self.future: Future[list[Reply]] = Future()
        self._replies: list[Reply | None] = [None] * replies

    @property
    def over(self) -> bool:
        """Whether it is answered, has failed, or was cancelled by its caller."""
        return self.future.done()

    def answer(self, places: Sequence[int], reply: Reply) -> None:
        """Fill in a reply; with the last one the call is answered."""
        for place in places:
            self._replies[place] = reply
        done = [reply for reply in self._replies if reply is not None]
        if len(done) == len(self._replies):
            with contextlib.suppress(InvalidStateError):  # the caller has just been cancelled
                self.future.set_result(done)

    def fail(self, problem: Exception) -> None:
        """End the call with an error, unless it is over."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(problem)


@dataclass(eq=False, slots=True)
class GeneratedSequence:
    """One text to decode."""

    call: PendingCall
    places: tuple[int, ...]
    """Which replies of the call it gives: several where they must be equal (temperature 0)."""

    prompt: Sequence[int]
    continues: bool
    """Whether the reply continues a text that the prompt ends with."""

    sampling: Sampling
    seed: int
    limit: int
    """Most tokens of the reply."""

    tokens: list[int] = field(default_factory=list)
    """Of the reply, so far."""

    finished: bool = False

    @property
    def idle(self) -> bool:
        """Whether nothing more is to be written for it."""
        return self.finished or self.call.over

    @property
    def ids(self) -> tuple[int, ...]:
        """Everything read and written so far."""
        return (*self.prompt, *self.tokens)

    @property
    def most(self) -> int:
        """Tokens it may come to, prompt included."""
        return len(self.prompt) + self.limit


@dataclass(eq=False, slots=True)
class ScoreRequest:
    """One sequence to read, and what is asked about the tokens that follow in it."""

    call: PendingCall
    ids: list[int]
    first: int
    """The first position whose next token is asked about; all later ones are too."""

    labels: Sequence[str] = ()
    label_ids: Sequence[tuple[int, ...]] = ()
    """Label: the tokens that say each; asked about at the last position."""

    targets: Sequence[int] = ()
    """Score: the next token at each position asked about."""


def out_of_memory() -> CallFailed:
    """What a call fails with that does not fit into memory by itself."""
    return CallFailed(
        "out of memory on a single call",
        kind="out-of-memory",
        hint="choose fewer max_tokens, shorter prompts, a smaller dtype or a smaller model",
    )
