"""The outset of a command: until one call of a kind succeeds, few are in flight.

A model that refuses every call, or a judge whose replies cannot be read, is one fault of the
configuration and not thousands of bad records. So the first calls of each kind are let through
slowly. When ``limit`` of them failed for the same reason and none succeeded, the command stops
with the server's own words. Once one succeeds, nothing is checked any more. Failures that are due
to the record, such as a prompt that is too long, do not count.
"""

import asyncio
import re
import time
from collections import Counter, defaultdict

from rlaif.errors import CallFailed, EngineError, EngineUnavailable, NothingSucceeded
from rlaif.judging.reading import (
    FAILED_REASON,
    LOW_MASS_REASON,
    REFUSED_REASON,
    UNREADABLE_REASON,
)
from rlaif.records import Choice, Verdict
from rlaif.runs.text import one_line

GIVE_UP_AFTER = 20
"""Default of ``give_up_after``."""

_MAY_PASS = re.compile(r"http-(408|409|425|429|5\d\d)|timeout|connection|unreachable|throttled")
"""Kinds of failures that may be over when the command is repeated."""

_OF_THE_RECORD = {"chat-template", "context-length", "http-413", "too-large"}
"""Kinds of failures that say nothing about the next call."""

_FEWEST_SUBJECTS = 3
"""Verdicts stop a command only when they are about so many prompts: one may be refused always."""

_RECOVERY_SECONDS = 30.0
"""After so long, what may pass is tried again: a server of rewards lives longer than an outage."""

_SHOWN = 500
_CARRY_ON = "give_up_after: 0 carries on regardless"


class Outset:
    """The first calls of one kind.

    Args:
        what: Names them in the message, such as ``judge calls to judge:main``.
        limit: How many may fail for the same reason; 0 checks nothing.
        slow: Whether few are in flight until one succeeds. Not for batches, which take hours.

    Attributes:
        passed: Whether one has succeeded, so that there is nothing left to do here.
    """

    def __init__(self, what: str, limit: int, *, slow: bool = True) -> None:
        self.passed = limit < 1
        self._what = what
        self._limit = limit
        self._slow = slow
        self._in_flight = 0
        self._failed: Counter[str] = Counter()
        self._subjects: defaultdict[str, set[str]] = defaultdict(set)
        self._problem: EngineError | None = None
        self._since = 0.0
        self._changed = asyncio.Event()

    async def enter(self) -> None:
        """Wait until one more may be in flight; `succeed`, `fail` or `leave` ends it.

        Raises:
            EngineError: All of the first ones failed.
        """
        while not self.passed:
            self._recover()
            if self._problem is not None:
                raise self._again()
            left = self._limit - max(self._failed.values(), default=0)
            if not self._slow or self._in_flight < max(left, 1):
                break
            self._changed.clear()
            await self._changed.wait()
        self._in_flight += 1

    def succeed(self) -> None:
        """Take note of a success: nothing is held back any more."""
        self.passed = True
        self.leave()

    def leave(self) -> None:
        """Take note of the end of a call that proves nothing."""
        self._in_flight -= 1
        self._changed.set()

    def fail(
        self,
        reason: str,
        words: str,
        *,
        hint: str = "",
        may_pass: bool = False,
        subject: str | None = None,
    ) -> None:
        """Take note of a failure.

        Args:
            reason: Failures for the same reason are counted together.
            words: What the server said.
            hint: How to fix it.
            may_pass: Whether the same command may succeed when repeated.
            subject: What the call was about; failures about too few of them stop nothing.

        Raises:
            EngineError: It was the last one that is allowed.
        """
        self._failed[reason] += 1
        if subject is not None:
            self._subjects[reason].add(subject)
        if not self.passed and self._problem is None and self._is_enough(reason, subject):
            self._since = time.monotonic()
            kind = EngineUnavailable if may_pass else NothingSucceeded
            self._problem = kind(
                f"the first {self._failed[reason]} {self._what} all failed: "
                f"{one_line(words, _SHOWN)}",
                hint=f"{hint}; {_CARRY_ON}" if hint else _CARRY_ON,
            )
        self.leave()
        if self._problem is not None and not self.passed:
            raise self._again()

    def _is_enough(self, reason: str, subject: str | None) -> bool:
        if self._failed[reason] < self._limit:
            return False
        if subject is not None and len(self._subjects[reason]) < min(_FEWEST_SUBJECTS, self._limit):
            return False
        return self._slow or self._in_flight == 1  # of a batch, others may have succeeded

    def _recover(self) -> None:
        old = time.monotonic() - self._since > _RECOVERY_SECONDS
        if isinstance(self._problem, EngineUnavailable) and old:
            self._problem = None
            self._failed.clear()

    def _again(self) -> EngineError:
        """A new exception each time: one that is raised in many tasks collects their traces."""
        assert self._problem is not None
        return type(self._problem)(self._problem.message, hint=self._problem.hint)


class CallOutsets:
    """The first calls of every kind to one engine: by purpose and by kind of request."""

    def __init__(self, label: str, limit: int, *, slow: bool) -> None:
        self._label = label
        self._limit = limit
        self._slow = slow
        self._kinds: dict[tuple[str, type], Outset] = {}

    def of(self, purpose: str, request: type) -> Outset:
        """Return those with a purpose."""
        kind = purpose, request
        if kind not in self._kinds:
            what = f"{purpose} calls to {self._label}" if purpose else f"calls to {self._label}"
            self._kinds[kind] = Outset(what, self._limit, slow=self._slow)
        return self._kinds[kind]

    def failed(self, outset: Outset, problem: CallFailed) -> None:
        """Take note that a call failed for good.

        Raises:
            EngineError: It was the last one that is allowed.
        """
        if problem.kind in _OF_THE_RECORD:
            outset.leave()
            return
        words = f"{problem.kind}: {problem.message}"
        hint, passes = hint_for(problem, self._label), may_pass(problem)
        outset.fail(problem.kind, words, hint=hint, may_pass=passes)


def may_pass(problem: CallFailed) -> bool:
    """Return whether the same call may succeed later."""
    return _MAY_PASS.search(problem.kind) is not None


def hint_for(problem: CallFailed, label: str) -> str:
    """Return what to do when every call to an engine fails like this."""
    return problem.hint or (
        "wait until the server answers again and repeat the command: what is done is kept"
        if may_pass(problem)
        else f"check model, base_url and options of {label}, then repeat the command"
    )


UNREAD: dict[str, str] = {
    UNREADABLE_REASON: "set words: true under the judge's method where the server gives no "
    "usable label probabilities, raise its max_tokens, or choose another model",
    LOW_MASS_REASON: "the judge would rather reply something else: set thinking: 1024 under its "
    "pairwise if it thinks first, or words: true; lower judging.min_mass (min_mass in other "
    "files), or choose another model",
    REFUSED_REASON: "the server's filter refuses every request: choose another model",
}


class VerdictOutset:
    """The first verdicts of one judge: an unreadable reply is not a success."""

    def __init__(self, judge: str) -> None:
        self._judge = judge
        self._outset = Outset("", 0)

    def start(self, limit: int, *, slow: bool) -> None:
        """Check verdicts from now on; before that, nothing is really asked."""
        self._outset = Outset(f"verdicts of the judge {self._judge!r}", limit, slow=slow)

    @property
    def passed(self) -> bool:
        """Whether nothing is checked, or no longer."""
        return self._outset.passed

    async def begin(self) -> None:
        """Wait until one more verdict may be asked for.

        Raises:
            EngineError: None of the first ones could be read.
        """
        await self._outset.enter()

    def end(self, prompt: str, verdict: Verdict | None) -> None:
        """Take note of a verdict about a prompt, or that there is none.

        Raises:
            EngineError: It is the last one that may be unreadable.
        """
        outset = self._outset
        if verdict is None or verdict.reason == FAILED_REASON:
            outset.leave()  # failed calls are counted where they are made
        elif verdict.choice is not Choice.ABSTAIN:
            outset.succeed()
        elif verdict.reason not in UNREAD:
            outset.leave()
        else:
            raw = f"; such as {one_line(verdict.raw, 120)!r}" if verdict.raw.strip() else ""
            words = f"{verdict.reason}{raw}"
            outset.fail(verdict.reason, words, hint=UNREAD[verdict.reason], subject=prompt)
