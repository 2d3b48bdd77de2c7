"""The tally: what came of a run so far, and whether that is a reason to stop."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from rlaif.engines import Written
from rlaif.errors import RlaifError, StoppedEarly
from rlaif.pipeline.item import RENDER, never_rendered
from rlaif.records import REMOVED, Failure, Row
from rlaif.records.plain import Plain
from rlaif.runs import RunWriter
from rlaif.runs.messages import MessageCounter
from rlaif.sessions.budget import NOTHING, Spend, Use
from rlaif.sessions.recorded import RecordedEngine

_UNRENDERED = 20
"""So many prompts that no template can be filled in with, and no row, stop a run."""

_FEWEST_SAMPLED = 3
_NEARLY_ALL = 0.9

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress(Plain):
    """How far a run is."""

    total: int | None
    """Records in the input; None while it is not known."""

    rows: int
    """Rows in the run, earlier ones included."""

    failures: int
    asked: int
    """Model calls made since this start."""

    remembered: int
    """Replies that came from a ledger since this start."""

    price: float | None
    """Spent by the run, earlier starts included, as far as prices are known; None when none is."""

    rate: float
    """Prompts finished per second since this start."""

    budget: tuple[Use, ...] = ()
    """The limits of the run, and how much of them is used."""

    samples: int = 0
    """Replies generated since this start, also for prompts that are not finished."""

    tokens_per_second: float = 0.0
    """Generated since this start, as far as engines say."""

    pending: tuple[str, ...] = ()
    """What engines wait for that takes long: batches, servers that are down or throttle."""


OnProgress = Callable[[Progress], None]


class Tally:
    """Keeps what comes of a run and counts it. Used from one event loop.

    Args:
        writer: The run, open for writing.
        failed: Record ids of failures in the run that count already.
        drawn: Whether samples are drawn at a temperature above 0, so that they should differ.

    Attributes:
        total: Records in the input; None while it is not known.
        rows: Rows in the run.
        failures: Failures in the run.
    """

    def __init__(self, writer: RunWriter, failed: Set[str], *, drawn: bool = False) -> None:
        self._writer = writer
        self._drawn = drawn
        self._warned = False
        self._failed = failed
        self.total: int | None = None
        self.rows, self.failures = len(writer.done_ids()), len(failed)
        self._finished = 0
        self._started = time.monotonic()
        self._unrendered: list[Failure] = []
        """Prompts that no template could be filled in with, while the run has no row."""

        self._sampled = self._identical = 0
        """Prompts with several samples; those whose samples are all the same."""

        self._said = MessageCounter()
        self._asked: Counter[str] = Counter()
        self._remembered: Counter[str] = Counter()
        self._spent = NOTHING
        """What other processes asked and spent."""

    def keep(self, outcome: Row | Failure) -> RlaifError | None:
        """Keep what came of one item.

        Returns:
            Why nothing more should begin; None as a rule.
        """
        if isinstance(outcome, Failure):
            if outcome.stage != RENDER or self.rows:
                self.keep_failure(outcome)
                return None
            # Kept once there is a row: before that it may be the template, not the prompt.
            self._unrendered.append(outcome)
            return self.never_rendered() if len(self._unrendered) == _UNRENDERED else None
        for failure in outcome.failures:
            self._said.add(failure)
        self.rows += self._writer.add_row(outcome)
        self._compare_samples(outcome)
        self._finished += 1
        unrendered, self._unrendered = self._unrendered, []
        for failure in unrendered:
            self.keep_failure(failure)
        return None

    def keep_failure(self, failure: Failure) -> None:
        """Keep a failure, whatever else there is."""
        if failure.stage == REMOVED:
            self._writer.log(
                "left out", prompt=failure.record_id, reason=failure.kind, why=failure.message
            )
        self._said.add(failure)
        self._writer.add_failure(failure)
        self.failures += failure.record_id not in self._failed
        self._finished += 1

    def said(self) -> dict[str, Any]:
        """Return the most frequent messages of failed calls since this start, for the log."""
        messages = [one.to_json() for one in self._said.most_common()]
        return {"messages": messages} if messages else {}

    def warn_of_identical(self) -> None:
        """Warn, once, if nearly all prompts so far have samples that are all the same."""
        if self._warned or not self._drawn or self._sampled < _FEWEST_SAMPLED:
            return
        if self._identical < _NEARLY_ALL * self._sampled:
            return
        self._warned = True
        message = (
            f"{self._identical} of {self._sampled} prompts have samples that are all the same, at "
            "a temperature above 0: the student's server probably ignores temperature, n or seed "
            "(supports_n: false asks for each sample by itself)"
        )
        _log.warning(message)
        self._writer.log("warning", message=message)

    def _compare_samples(self, row: Row) -> None:
        samples = [one.text.strip() for one in row.responses if one.origin == "sample"]
        if len(samples) > 1:
            self._sampled += 1
            self._identical += len(set(samples)) == 1
            if self._sampled == _UNRENDERED:
                self.warn_of_identical()

    def never_rendered(self) -> RlaifError | None:
        """Why there is no row, where templates could be filled in with no prompt at all."""
        return never_rendered(self._unrendered) if self._unrendered else None

    def add_elsewhere(
        self, asked: Mapping[str, int], remembered: Mapping[str, int], spent: Spend
    ) -> None:
        """Count what another process asked, remembered and spent."""
        self._asked.update(asked)
        self._remembered.update(remembered)
        self._spent += spent

    def counts(self, engines: Sequence[RecordedEngine]) -> dict[str, Any]:
        """Replies asked and remembered since this start, by purpose."""
        asked, remembered = Counter(self._asked), Counter(self._remembered)
        for engine in engines:
            asked += engine.asked
            remembered += engine.remembered
        return {"asked": dict(asked), "remembered": dict(remembered)}

    def with_counts(self, stopped: StoppedEarly) -> StoppedEarly:
        """Add to why a run stopped early how far it came."""
        total = "" if self.total is None else f" of {self.total} prompts"
        done = f"{self.rows}{total} are rows, {self.failures} failed"
        return StoppedEarly(f"{stopped.message}; {done}", hint=stopped.hint)

    def progress(self, engines: Sequence[RecordedEngine], budget: tuple[Use, ...]) -> Progress:
        """Say how far the run is."""
        counts = self.counts(engines)
        totals = self._writer.ledger.totals()
        written = sum((engine.written() for engine in engines), Written(0, 0))
        seconds = max(time.monotonic() - self._started, 1e-9)
        prices = [total.price for total in totals if total.price is not None]
        if self._spent.price:
            prices.append(self._spent.price)
        return Progress(
            total=self.total,
            rows=self.rows,
            failures=self.failures,
            asked=sum(counts["asked"].values()),
            remembered=sum(counts["remembered"].values()),
            price=sum(prices) if prices else None,
            rate=self._finished / seconds,
            samples=written.samples,
            tokens_per_second=written.tokens / seconds,
            budget=budget,
            # Engines at the same server say the same.
            pending=tuple(dict.fromkeys(filter(None, (one.pending for one in engines)))),
        )
