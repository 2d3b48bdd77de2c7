"""The writing side of a run directory: one process, from the lock to the last shard.

Rows wait in memory until a shard is due, and are then written by a separate thread. Rows lost
in a crash cost no money: their calls are in the ledger, and equal calls give equal rows.
"""

import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from rlaif.errors import RunError
from rlaif.records import INPUT_STAGES, Failure, Row
from rlaif.runs.failures import append_failures, repair_failures, standing_failures
from rlaif.runs.files import (
    is_unfinished,
    make_folder,
    remove_partial,
    sync_folder,
    write_whole,
)
from rlaif.runs.ids import IdSet, read_ids
from rlaif.runs.layout import Layout
from rlaif.runs.ledger.ledger import Ledger, check_reuse
from rlaif.runs.lock import RunLock
from rlaif.runs.log import EventLog
from rlaif.runs.manifest import Manifest, check_same_plan, load_manifest, write_manifest
from rlaif.runs.shards import (
    Unfinished,
    count_made,
    digest_failures,
    done_ids,
    failed_rows,
    listed_prompts,
    write_shard,
)
from rlaif.runs.stores import Store, url_of

_PATIENCE_SECONDS = 30.0
_PATIENCE_SHARE = 0.02


class RunWriter:
    """A run directory open for writing: a new one, or one made under the same plan.

    A context manager; leaving it writes what is finished, also when leaving by an exception.

    Args:
        directory: The run directory, created when missing; or a URL such as ``s3://bucket/run``.
        manifest: What is asked now. One that is there already stays as it is.
        reuse: Other run directories whose ledgers may answer, at no cost.
        rows_per_shard: How many rows, or failures, make a shard due.

    Attributes:
        ledger: The run's ledger.
        log: Call it with an event and fields to write a line of ``log.jsonl``.
        manifest: The manifest in the directory.
        store: The object store the run lies in; None when it lies on this machine.

    Raises:
        InputError: A directory of ``reuse`` has no ledger; nothing was written.
        RunLocked: Another process writes to the run.
        RunMismatch: The directory holds rows made under another plan, or by a newer version.
        RunError: It cannot be written, is damaged, or contains something other than a run.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        *,
        reuse: Sequence[Path] = (),
        rows_per_shard: int = 1000,
    ) -> None:
        check_reuse(reuse)
        url = url_of(directory)
        self.store = store = None if url is None else Store(url)
        directory = directory if store is None else store.copy
        self._layout = layout = Layout(directory)
        with ExitStack() as opened:
            make_folder(directory)
            if store is None and not layout.manifest.exists():
                _refuse_strangers(layout)  # before the lock leaves a file there
            opened.callback(RunLock(directory).release)
            if store is not None:
                store.fetch()
            self.manifest = _settle_manifest(layout, manifest)
            make_folder(layout.shards)
            self.log = EventLog(layout.log)
            opened.callback(self.log.close)
            self._tidy_up()
            self._done = done_ids(layout.shards)
            standing = standing_failures(layout.failures, layout.shards)
            self._failed = set(standing)
            self._misread = {name for name, one in standing.items() if one.stage in INPUT_STAGES}
            if store is None:
                self.ledger = opened.enter_context(Ledger.open(layout.ledger, reuse=reuse))
            else:
                store.upload(layout.manifest)
                store.upload_missing()
                store.remove_staged()
                self.ledger = opened.enter_context(_open_stored(store, reuse))
            sync_folder(directory)
            self._thread = opened.enter_context(ThreadPoolExecutor(1, "rlaif-shards"))
            self._opened = opened.pop_all()
        self._rows_per_shard = rows_per_shard
        self._rows: list[Row] = []
        self._anew: list[Row] = []
        """Rows that count in place of earlier ones."""

        self._unfinished: dict[bytes, Unfinished] = {}
        self._failures: list[Failure] = []
        self._taken_back: list[str] = []
        self._writing: Future[None] | None = None
        self._broken: RunError | None = None
        self._closed = False
        self._start = self._last_write = time.monotonic()

    def _tidy_up(self) -> None:
        """Remove what a crash left unfinished."""
        layout = self._layout
        for path in remove_partial(layout.root, layout.shards, layout.replies):
            self.log("removed", file=path.name, reason="left unfinished by a crash")
        shutil.rmtree(layout.staged, ignore_errors=True)
        if repair_failures(self._layout.failures):
            self.log("repaired", file=self._layout.failures.name, reason="torn last line")

    @property
    def directory(self) -> Path:
        """The run directory on this machine."""
        return self._layout.root

    def done_ids(self) -> IdSet:
        """Ids of all rows, those added just now included: the set grows with them."""
        return self._done

    def failed_ids(self) -> set[str]:
        """Record ids of all failures that no row has made up for. A copy."""
        return set(self._failed)

    def misread_ids(self) -> set[str]:
        """Those of them that were failures of the input when the run was opened. A copy."""
        return set(self._misread)

    def reopen_failed(self) -> Set[bytes]:
        """Let rows that hold failed calls be made anew; return their ids.

        `add_row` then takes each of them once more. It counts in place of the old row, which stays
        on the disk. The set shrinks with every row that is taken.

        Raises:
            RunError: A shard is damaged.
        """
        self._unfinished = failed_rows(self._layout.shards)
        return self._unfinished.keys()

    def reopen(self, row_id: bytes) -> None:
        """Let one row be made anew, whatever it has: `add_row` takes it once more."""
        self._unfinished[row_id] = Unfinished(failures=0, made=(0, 0))

    def find_orphans(self, ids: IdSet, is_gone: Callable[[str], bool]) -> int:
        """Write down which rows are of prompts no longer in the input.

        Readers leave them out. They stay on the disk, and count again when the input has them.

        Args:
            ids: Of the rows of all prompts read. None of these is an orphan.
            is_gone: Whether the input has no such row any more, by the id of the prompt. Rows
                that were orphans before stay so in any case.

        Returns:
            How many there are.

        Raises:
            RunError: A shard or the list is damaged, or the list cannot be written.
        """
        self._check()
        path = self._layout.orphans
        before = read_ids(path)
        orphans = {
            row_id
            for row_id, prompt_id in listed_prompts(self._layout.shards)
            if row_id not in ids and (row_id in before or is_gone(prompt_id))
        }
        if orphans or path.exists():
            write_whole(path, b"".join(sorted(orphans)))
            self._upload(path)
        return len(orphans)

    def has_orphans(self) -> bool:
        """Whether an earlier start wrote some down."""
        return self._layout.orphans.exists()

    def add_row(self, row: Row) -> bool:
        """Take a finished row; False when its id is there already.

        Then nothing is done, unless `reopen_failed` named it, other calls failed this time, and it
        has no less than the row before: a failed call then never costs an answer that was there.

        Raises:
            RunError: Rows could not be written, now or before.
        """
        self._check()
        row_id = bytes.fromhex(row.id)
        new = self._done.add(row_id)
        if new:
            self._rows.append(row)
        elif _counts_instead(row, self._unfinished.pop(row_id, None)):
            self._anew.append(row)
        else:
            return False
        self._failed.discard(row.prompt.id)
        self._write_if_due()
        return new

    def add_failure(self, failure: Failure) -> None:
        """Take a prompt that could not become a row.

        Raises:
            RunError: Rows could not be written, now or before.
        """
        self._check()
        self._failed.add(failure.record_id)
        self._failures.append(failure)
        self._write_if_due()

    def take_back(self, record_ids: Iterable[str]) -> None:
        """Take failures back whose records were fixed or removed.

        Raises:
            RunError: Rows could not be written, now or before.
        """
        self._check()
        taken_back = self._failed.intersection(record_ids)
        self._failed -= taken_back
        self._taken_back += sorted(taken_back)
        self._write_if_due()

    def flush(self) -> None:
        """Wait until every call, row and failure so far is on the disk.

        Raises:
            RunError: Something could not be written; what was written before is safe.
        """
        self._check()
        self._start_writing()
        self._finish_writing()

    def close(self) -> None:
        """Write what is left, close everything and let others write. Safe to call twice.

        Raises:
            RunError: Something could not be written; everything is closed all the same.
        """
        with self._opened:
            if not self._closed and self._broken is None:
                self.flush()
                self._upload(self._layout.log)
            self._closed = True

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except RunError as second:
            if error is None:
                raise
            error.add_note(str(second))

    def _check(self) -> None:
        if self._broken is not None:
            raise RunError(self._broken.message, hint=self._broken.hint)
        if self._closed:
            raise RunError(f"{self._layout.root}: the run is closed")

    def _write_if_due(self) -> None:
        now = time.monotonic()
        waiting = len(self._rows) + len(self._anew) + len(self._failures) + len(self._taken_back)
        late = now - self._last_write >= patience(now - self._start)
        if waiting >= self._rows_per_shard or late:
            self._start_writing()

    def _start_writing(self) -> None:
        """Hand everything to the writing thread; waits for the shard before this one."""
        self._finish_writing()
        rows, self._rows = self._rows, []
        anew, self._anew = self._anew, []
        failures, self._failures = self._failures, []
        taken_back, self._taken_back = self._taken_back, []
        self._last_write = time.monotonic()
        self._writing = self._thread.submit(self._write, rows, anew, failures, taken_back)

    def _finish_writing(self) -> None:
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            writing.result()
        except RunError as error:
            self._broken = error
            raise

    def _write(
        self,
        rows: Sequence[Row],
        anew: Sequence[Row],
        failures: Sequence[Failure],
        taken_back: Sequence[str],
    ) -> None:
        # In this order, so that whatever a row was made from is in the ledger when it appears.
        self.ledger.flush()
        label = self.manifest.label
        if rows:
            self._upload(write_shard(self._layout.shards, rows, run=label))
        if anew:
            self._upload(write_shard(self._layout.shards, anew, run=label, supersedes=True))
        append_failures(self._layout.failures, failures, taken_back)
        if failures or taken_back:
            self._upload(self._layout.failures)

    def _upload(self, path: Path) -> None:
        if self.store is not None:
            self.store.upload(path)


def _counts_instead(row: Row, before: Unfinished | None) -> bool:
    if before is None or digest_failures(row.failures) == before.failures:
        return False
    return not row.failures or count_made(row) >= before.made


def _open_stored(store: Store, reuse: Sequence[Path]) -> Ledger:
    """A ledger without a file, which an object store could not hold."""
    return Ledger.open_sharded(
        Layout(store.copy).replies,
        writer=secrets.token_hex(4),
        reuse=reuse,
        upload=store.upload,
    )


def patience(open_for: float) -> float:
    """Seconds that rows wait for a full shard, by how long the writer has been open.

    Half a minute at first, so that a slow run is soon visible; then a share of its age, so that a
    week of it makes hundreds of shards and not twenty thousand.
    """
    return max(_PATIENCE_SECONDS, _PATIENCE_SHARE * open_for)


def _settle_manifest(layout: Layout, asked: Manifest) -> Manifest:
    """Return the manifest that is there, if it asks the same; else write the new one."""
    try:
        there = load_manifest(layout.root)
    except FileNotFoundError:
        _refuse_strangers(layout)
        write_manifest(layout.root, asked)
        return asked
    check_same_plan(layout.root, there, asked)
    return there


def _refuse_strangers(layout: Layout) -> None:
    """A folder without a manifest must be as good as empty: a crash leaves no more than this."""
    for path in sorted(layout.root.iterdir()):
        if path != layout.lock and not is_unfinished(path) and not layout.manifest.exists():
            raise RunError(
                f"{layout.root}: has {path.name} but no {layout.manifest.name}, so it is not a run",
                hint="choose another folder as `out`, or restore the manifest",
            )
