"""The ledger: every model call is a content-addressed fact, written before anything parses it.

Its key says everything that can change the answer, so an equal question is never paid twice: not
after a crash, not by a better parser, not in another run that names this one under ``reuse``. It is
also the account of what was spent.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from rlaif.errors import InputError, RunError
from rlaif.runs.entry import Entry, Total, from_call, key_bytes, to_call
from rlaif.runs.group_commit import GroupCommit
from rlaif.runs.layout import Layout
from rlaif.runs.ledger_file import (
    Account,
    Call,
    Sums,
    connect,
    damaged,
    explain,
    find_call,
    read_accounts,
    read_page,
)


def check_reuse(directories: Sequence[Path]) -> None:
    """Make sure that every directory has a ledger, before anything is written.

    Raises:
        InputError: Names the one that has none.
    """
    for directory in directories:
        if not Layout(directory).ledger.is_file():
            raise InputError(
                f"reuse: {directory}: there is no ledger in it",
                hint="name run directories under `reuse`",
            )


class Ledger:
    """Replies by key. Open with `Ledger.open`; close with `close` or ``with``.

    `get` and `put` may be called from an event loop: they do not wait for the disk, unless 32 MiB
    of replies are waiting to be written. A key once written keeps its reply.
    """

    def __init__(
        self,
        path: Path,
        reader: sqlite3.Connection,
        commits: GroupCommit | None,
        reuse: Sequence["Ledger"],
    ) -> None:
        self.path = path
        self._reader = reader
        self._commits = commits
        self._reuse = reuse
        self._lock = threading.Lock()
        self._accounts = read_accounts(reader)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False, reuse: Sequence[Path] = ()) -> "Ledger":
        """Open a ledger file, creating it unless ``read_only``.

        Only one process may write; the run's lock sees to that. Any number may read meanwhile.

        Args:
            path: The SQLite file.
            read_only: Never change it; it must exist.
            reuse: Other run directories. A reply that only they have is copied from the first.

        Raises:
            InputError: A directory of ``reuse`` has no ledger.
            RunError: The file is damaged, unreadable, or cannot be written.
            RunMismatch: The file was written by a newer version.
        """
        check_reuse(reuse)
        with ExitStack() as opened:
            others = [
                opened.enter_context(cls.open(Layout(folder).ledger, read_only=True))
                for folder in reuse
            ]
            commits = None
            if not read_only:
                commits = GroupCommit(connect(path, read_only=False), path)
                opened.callback(commits.close)
            reader = opened.enter_context(closing(connect(path, read_only=True)))
            ledger = cls(path, reader, commits, others)
            opened.pop_all()
        return ledger

    def get(self, key: str) -> Entry | None:
        """Look a reply up: here, among what is being written, then in the ledgers to reuse.

        Raises:
            RunError: The ledger is damaged or cannot be read.
        """
        call = self._find(key_bytes(key))
        if call is not None:
            return self._entry(call)
        for other in self._reuse:
            entry = other.get(key)
            if entry is not None:
                entry = replace(entry, reused=True)
                self.put(entry)
                return entry
        return None

    def _find(self, key: bytes) -> Call | None:
        if self._commits is not None:
            pending = self._commits.pending.get(key)
            if pending is not None:
                return pending
        with self._lock:
            try:
                return find_call(self._reader, key)
            except sqlite3.Error as error:
                raise explain(self.path, error) from error

    def put(self, entry: Entry) -> None:
        """Write an entry down. It can be looked up at once, and is durable within 250 ms.

        Raises:
            RunError: The disk is full, or another write failed, now or before; or the ledger was
                opened to be read only.
            TypeError: The reply is not JSON-compatible.
        """
        if self._commits is None:
            raise RunError(f"{self.path}: opened to be read only")
        call = to_call(entry)
        self._commits.put(call)
        with self._lock:
            self._accounts.setdefault(call.account, Sums()).add(call)

    def flush(self) -> None:
        """Wait until everything put so far is durable.

        Raises:
            RunError: Writing failed; what had been committed before is safe.
        """
        if self._commits is not None:
            self._commits.flush()

    def totals(self) -> tuple[Total, ...]:
        """What was asked and paid, by purpose and engine, in order of first use.

        Raises:
            RunError: The ledger is damaged or cannot be read.
        """
        with self._lock:
            if self._commits is None:
                try:
                    self._accounts = read_accounts(self._reader)
                except sqlite3.Error as error:
                    raise explain(self.path, error) from error
            accounts = {account: replace(sums) for account, sums in self._accounts.items()}
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

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in the order of writing, what was put before the call included.

        Raises:
            RunError: The ledger is damaged or cannot be read.
        """
        self.flush()
        place = 0
        while True:
            with self._lock:
                try:
                    page = read_page(self._reader, place)
                except sqlite3.Error as error:
                    raise explain(self.path, error) from error
            if not page:
                return
            place = page[-1].place
            yield from map(self._entry, page)

    def close(self) -> None:
        """Write what is left, unless writing has failed, and close. Safe to call twice."""
        # The reader first: SQLite tidies up when the last connection that may write is closed.
        self._reader.close()
        if self._commits is not None:
            self._commits.close()
        for other in self._reuse:
            other.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _entry(self, call: Call) -> Entry:
        try:
            return from_call(call)
        except ValueError as error:
            raise damaged(self.path, str(error)) from error


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
