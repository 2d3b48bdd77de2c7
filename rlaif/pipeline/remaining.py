"""What a run has left to do: what it is made from, less what it holds already."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from rlaif.inputs import PromptSource, belongs, count_records, read_prompts
from rlaif.records import Failure, Prompt, Row, content_id
from rlaif.runs import Run, RunWriter
from rlaif.runs.ids import IdSet
from rlaif.runs.shards import digest_failures

RowId = Callable[[Prompt], str]
"""From a prompt to the id of its row under the plan of the run."""


class Remaining(Protocol):
    """What one start of a run has to do. Made when the run is open for writing."""

    failed: set[str]
    """Record ids of failures in the run that are not tried again."""

    retried: set[str]
    """Prompt ids of rows that are made anew because they hold failed calls."""

    orphans: int
    """After a whole pass: rows whose prompt is not in the input any more."""

    origin: Mapping[str, Any]
    """Where it comes from, for the log."""

    def count(self) -> int | None:
        """Count what the whole run is made from; None when it cannot be counted. May take long."""
        ...

    def read(self, stop: Callable[[], bool]) -> Iterator[Prompt | Row | Failure]:
        """Yield what is neither a row nor a failure yet, until ``stop``. For a reader thread."""
        ...

    def meet(self, failure: Failure) -> None:
        """Take note of a failure that this start came upon."""
        ...

    def finish(self) -> int:
        """After a whole pass: take back failures that it did not come upon again.

        Returns:
            How many of ``failed`` these were.
        """
        ...


class RemainingPrompts:
    """Prompts of a source that are neither a row nor a failure yet.

    Args:
        source: Where prompts come from.
        writer: The run, open for writing.
        row_id: From a prompt to the id of its row.
        retry_failed: Try again what failed before: prompts, and rows that hold failed calls.
    """

    origin: Mapping[str, Any] = {}

    def __init__(
        self, source: PromptSource, writer: RunWriter, row_id: RowId, *, retry_failed: bool
    ) -> None:
        self._source = source
        self._writer = writer
        self._row_id = row_id
        self._done = writer.done_ids()
        self.failed = set() if retry_failed else writer.failed_ids()
        self._misread = writer.misread_ids()
        """Failures of the input, as earlier starts found them, that this one has not met yet."""

        self._unmet = writer.failed_ids() - self._misread
        """Prompts that failed before and were not met yet."""

        self._readable: set[str] = set()
        """Failures of the input whose place now holds a valid prompt."""

        self._unfinished = writer.reopen_failed() if retry_failed else frozenset()
        self._read_rows = bytearray()
        """Ids of the rows of all prompts read."""

        self._read_prompts = bytearray()
        """Hashes of the ids of all prompts read."""

        self._had = 0
        self._before = len(self._done)
        self.retried: set[str] = set()
        self.orphans = 0
        self._count = self._read_count = 0

    def count(self) -> int | None:
        """Count the records of the source."""
        return count_records(self._source)

    def read(self, stop: Callable[[], bool]) -> Iterator[Prompt | Failure]:
        """Yield prompts to work on, and failures of the input that are new."""
        for item in read_prompts(self._source):
            if stop():
                return
            self._count += 1
            if isinstance(item, Failure):
                # One that failed as a prompt before is now a failure of the input.
                new = item.record_id not in self.failed or item.record_id in self._unmet
                self.meet(item)
                if new:
                    yield item
                continue
            row_id = bytes.fromhex(self._row_id(item))
            self._read_rows += row_id
            self._read_count += 1
            self._read_prompts += _hash(item.id)
            self._unmet.discard(item.id)
            if item.source in self._misread:
                self._readable.add(item.source)
            if row_id in self._done:
                self._had += 1
                if row_id in self._unfinished:
                    self.retried.add(item.id)
                    yield item
            elif item.id not in self.failed or item.id in self._misread:
                yield item

    def meet(self, failure: Failure) -> None:
        """Take note that a record still fails."""
        self._misread.discard(failure.record_id)
        self._unmet.discard(failure.record_id)

    def finish(self) -> int:
        """Take back failures that a whole pass did not come upon again, and find orphans.

        A pass that ended at the limit says nothing about what comes after it.
        """
        source = self._source
        cut_off = source.limit is not None and (
            self._count >= source.limit or source.partition is not None
        )
        if cut_off:
            fixed = self._readable & self._misread
        else:
            fixed = {one for one in self._misread | self._unmet if belongs(one, source.partition)}
        self._find_orphans(cut_off=cut_off)
        if fixed:
            self._writer.take_back(fixed)
            self._writer.log("fixed", failures=len(fixed))
        self._writer.log("input", prompts=self._count, **self._beyond(len(fixed)))
        return len(fixed & self.failed)

    def _beyond(self, fixed: int) -> dict[str, int]:
        """Return what the run holds of prompts that this pass did not read, for the log."""
        self._writer.flush()
        ids = bytes(self._read_rows)
        width = len(ids) // self._read_count if self._read_count else 1
        read = sum(ids[at : at + width] in self._done for at in range(0, len(ids), width))
        beyond = {
            "more_rows": len(self._done) - self.orphans - read,
            "more_failed": len(self._misread | self._unmet) - fixed,
        }
        return {what: count for what, count in beyond.items() if count > 0}

    def _find_orphans(self, *, cut_off: bool) -> None:
        if self._had == self._before and not self._writer.has_orphans():
            return
        prompts = IdSet()
        prompts.update(bytes(self._read_prompts))

        def is_gone(prompt_id: str) -> bool:
            # A prompt that was read under another row id was changed.
            whole = not cut_off and belongs(prompt_id, self._source.partition)
            return whole or _hash(prompt_id) in prompts

        rows = IdSet()
        rows.update(bytes(self._read_rows))
        self._writer.flush()
        self.orphans = self._writer.find_orphans(rows, is_gone)
        if self.orphans:
            self._writer.log("orphans", rows=self.orphans)


def _hash(prompt_id: str) -> bytes:
    return bytes.fromhex(content_id("prompt-id", prompt_id))


class RemainingRows:
    """Rows of a finished run that are to be judged anew, and its failures, which stay failures.

    A row that could not be judged by an earlier start is tried again. One that the old run has made
    anew since then is judged again, and one that became an orphan there is an orphan here.

    Args:
        run: The run with the responses; it is only read.
        writer: The new run, open for writing.
        row_id: From a prompt to the id of its row in the new run.
        retry_failed: Judge rows again that hold failed calls.

    Attributes:
        changed: Rows that the old run has made anew since they were judged.
    """

    def __init__(self, run: Run, writer: RunWriter, row_id: RowId, *, retry_failed: bool) -> None:
        self._run = run
        self._writer = writer
        self._row_id = row_id
        self._done = writer.done_ids()
        self.failed = writer.failed_ids()
        self._unmet = set(self.failed)
        self._unfinished = writer.reopen_failed() if retry_failed else frozenset()
        self._judged: dict[bytes, int] = {}
        """Row ids here to a digest of what was judged."""

        self._read_rows = IdSet()
        self.retried: set[str] = set()
        self.changed = self.orphans = 0
        self.origin: Mapping[str, Any] = {"rejudges": str(run.path)}

    def count(self) -> int:
        """Count the rows and failures of the old run."""
        return self._run.count_rows() + sum(1 for _ in self._run.failures())

    def read(self, stop: Callable[[], bool]) -> Iterator[Row | Failure]:
        """Yield failures that the new run does not have yet, then rows to judge."""
        if len(self._done):
            here = Run(self._writer.directory, self._writer.manifest, keep_orphans=True)
            rows = here.read(["responses", "failures"])
            self._judged = {bytes.fromhex(self._row_id(r.prompt)): _digest(r) for r in rows}
        for failure in self._run.failures():
            self.meet(failure)
            if failure.record_id not in self.failed:
                yield failure
        for row in self._run.rows():
            if stop():
                return
            row_id = bytes.fromhex(self._row_id(row.prompt))
            self._read_rows.add(row_id)
            if row_id in self._done:
                changed = row_id in self._judged and self._judged[row_id] != _digest(row)
                if changed:
                    self.changed += 1
                    self._writer.reopen(row_id)
                elif row_id not in self._unfinished:
                    continue
                self.retried.add(row.prompt.id)
            yield row

    def meet(self, failure: Failure) -> None:
        """Take note that a record still fails."""
        self._unmet.discard(failure.record_id)

    def finish(self) -> int:
        """Take back failures that the old run no longer has, and find its orphans."""
        if self._unmet:
            self._writer.take_back(self._unmet)
        if len(self._done) > len(self._read_rows) or self._writer.has_orphans():
            self._writer.flush()
            self.orphans = self._writer.find_orphans(self._read_rows, lambda _: True)
        for event, rows in (("changed", self.changed), ("orphans", self.orphans)):
            if rows:
                self._writer.log(event, rows=rows)
        return len(self._unmet & self.failed)


def _digest(row: Row) -> int:
    """Return a number that differs when a row has other responses, or other calls for them failed.

    Rows judged anew keep both from the row whose responses they judge.
    """
    failures = digest_failures(one for one in row.failures if one.stage != "judge")
    return hash((tuple(response.id for response in row.responses), failures))
