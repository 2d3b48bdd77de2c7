"""The ledger: every model call is a content-addressed fact, written before anything parses it.

The key covers everything that can change the reply, so an equal call is never paid twice: not after
a crash, not for a better parser, not in another run with this one under ``reuse``. The ledger is
also the account of the spend.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from rlaif.errors import InputError, RunError
from rlaif.runs.files import list_whole, make_folder
from rlaif.runs.ids import KeyFilter
from rlaif.runs.layout import Layout
from rlaif.runs.ledger.entry import (
    Call,
    Entry,
    Sums,
    Total,
    from_call,
    key_bytes,
    sum_up,
    to_call,
    totals,
)
from rlaif.runs.ledger.file import (
    connect,
    damaged,
    explain,
    find_call,
    open_empty,
    read_accounts,
    read_keys,
    read_page,
    write_calls,
)
from rlaif.runs.ledger.group_commit import GroupCommit
from rlaif.runs.ledger.replies import SUFFIX, ReplyShards, write_replies
from rlaif.runs.stores import local_copy

_SHARD_REPLIES = 1000
_SHARD_SECONDS = 2.0
"""Limits of a reply shard; larger than for commits, because a file costs more."""


def has_ledger(directory: Path) -> bool:
    """Whether a run directory has replies, in a ledger file or in reply shards."""
    layout = Layout(directory)
    return layout.ledger.is_file() or bool(list_whole(layout.replies, SUFFIX))


def check_reuse(directories: Sequence[Path]) -> None:
    """Check that every directory has a ledger, before anything is written.

    Raises:
        InputError: A directory has none.
    """
    for directory in directories:
        if not has_ledger(local_copy(directory)):
            raise InputError(
                f"reuse: {directory}: ledger not found",
                hint="list run directories under `reuse`",
            )


class Ledger:
    """Replies by key. Open with `Ledger.open`; close with `close` or ``with``.

    `get` and `put` may be called from an event loop: they do not wait for the disk unless 32 MiB of
    replies are waiting to be written. A key once written keeps its reply.
    """

    def __init__(
        self,
        path: Path,
        reader: sqlite3.Connection,
        commits: GroupCommit | None,
        reuse: Sequence["Ledger"],
        shards: ReplyShards,
    ) -> None:
        self.path = path
        self._reader = reader
        self._commits = commits
        self._reuse = reuse
        self._shards = shards
        self._opened = ExitStack()
        self._lock = threading.Lock()
        self._accounts = sum_up(read_accounts(reader), shards.accounts)
        # Keys of the file, written or pending. None if another process may be writing the file.
        self._filter = None if commits is None else _filter_of(reader, path)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False, reuse: Sequence[Path] = ()) -> "Ledger":
        """Open a ledger file, creating it unless ``read_only``, and the reply shards beside it.

        Only one process may write, the holder of the run's lock. Any number may read meanwhile.

        Args:
            path: The SQLite file.
            read_only: Never change it. It must exist, unless there are reply shards or ``reuse``.
            reuse: Other run directories. Replies that only they have are copied from the first.

        Raises:
            InputError: A directory of ``reuse`` has no ledger.
            RunError: The file is damaged, unreadable, or cannot be written.
            RunMismatch: The file was written by a newer version.
        """
        check_reuse(reuse)
        shards = ReplyShards(Layout(path.parent).replies)
        with ExitStack() as opened:
            others = _open_others(reuse, opened)
            commits = None
            if not read_only:
                writer = opened.enter_context(closing(connect(path, read_only=False)))
                commits = GroupCommit(lambda group: write_calls(writer, group), path)
                opened.callback(commits.close)
            # A missing file is fine if replies are kept in shards or in other runs.
            elsewhere = bool(reuse) or Layout(path.parent).replies.is_dir()
            fileless = read_only and elsewhere and not path.is_file()
            reader = open_empty() if fileless else connect(path, read_only=True)
            opened.enter_context(closing(reader))
            ledger = cls(path, reader, commits, others, shards)
            ledger._opened = opened.pop_all()
        return ledger

    @classmethod
    def open_sharded(
        cls,
        folder: Path,
        *,
        writer: str,
        only_own: bool = False,
        reuse: Sequence[Path] = (),
        upload: Callable[[Path], None] | None = None,
    ) -> "Ledger":
        """Open reply shards for reading and writing, with no ledger file. Many may write at once.

        Replies are durable within two seconds.

        Args:
            folder: The run's ``replies`` folder; created when missing.
            writer: A name of letters and digits that no other writer has.
            only_own: Look up only the replies of this writer.
            reuse: Other run directories, as for `open`.
            upload: Called with every shard, which then counts as durable.

        Raises:
            InputError: A directory of ``reuse`` has no ledger.
            RunError: A shard is damaged, or the folder cannot be written.
        """
        check_reuse(reuse)
        make_folder(folder)
        shards = ReplyShards(folder, writer=writer if only_own else "")

        def write(group: Sequence[Call]) -> None:
            path = write_replies(folder, group, writer=writer)
            if upload is not None:
                upload(path)
            shards.add(path, counted=True)

        with ExitStack() as opened:
            others = _open_others(reuse, opened)
            reader = opened.enter_context(closing(open_empty()))
            commits = GroupCommit(write, folder, rows=_SHARD_REPLIES, seconds=_SHARD_SECONDS)
            opened.callback(commits.close)
            ledger = cls(folder, reader, commits, others, shards)
            ledger._opened = opened.pop_all()
        return ledger

    def get(self, key: str) -> Entry | None:
        """Look up a reply: in this ledger, among pending calls, then in the ledgers to reuse.

        Raises:
            RunError: The ledger is damaged or cannot be read.
        """
        entry, ours = self.look_up(key)
        if entry is not None and not ours:
            self.put(entry)
        return entry

    def look_up(self, key: str) -> tuple[Entry | None, bool]:
        """The same without copying; also return whether the reply belongs to this run.

        Raises:
            RunError: The ledger is damaged or cannot be read.
        """
        call = self._find(key_bytes(key))
        if call is not None:
            return self._entry(call), True
        for other in self._reuse:
            entry, _ = other.look_up(key)
            if entry is not None:
                return replace(entry, reused=True), False
        return None, False

    def keys(self) -> bytes:
        """Every key that `get` would find, 16 bytes each, one after the other, some twice.

        Raises:
            RunError: The ledger is damaged or cannot be read.
        """
        self.flush()
        with self._lock:
            try:
                own = b"".join(read_keys(self._reader))
            except sqlite3.Error as error:
                raise explain(self.path, error) from error
        return b"".join([own, self._shards.keys(), *(other.keys() for other in self._reuse)])

    def _has(self, key: bytes) -> bool:
        """Whether the ledger file holds the key, which then counts before any shard."""
        with self._lock:
            return find_call(self._reader, key) is not None

    def _find(self, key: bytes) -> Call | None:
        if self._commits is not None:
            pending = self._commits.pending.get(key)
            if pending is not None:
                return pending
        if self._filter is None or self._filter.may_hold(key):
            with self._lock:
                try:
                    found = find_call(self._reader, key)
                except sqlite3.Error as error:
                    raise explain(self.path, error) from error
            if found is not None:
                return found
        return self._shards.find(key)

    def put(self, entry: Entry) -> None:
        """Add an entry. It can be looked up at once, and is durable within 250 ms.

        Raises:
            RunError: The disk is full, or another write failed, now or before; or the ledger is
                read-only.
            TypeError: The reply is not JSON-compatible.
        """
        if self._commits is None:
            raise RunError(f"{self.path}: opened read-only")
        call = to_call(entry)
        with self._lock:
            if self._filter is not None:
                self._filter.add(call.key)  # before it is written, or a lookup could miss it
        self._commits.put(call)
        with self._lock:
            account = call.account
            if account not in self._accounts:
                self._accounts[account] = Sums()
            self._accounts[account].add(call)

    def flush(self) -> None:
        """Wait until everything put so far is durable.

        Raises:
            RunError: Writing failed; earlier commits are safe.
        """
        if self._commits is not None:
            self._commits.flush()

    def totals(self) -> tuple[Total, ...]:
        """Return calls, tokens and price by purpose and engine, in order of first use.

        Raises:
            RunError: The ledger is damaged or cannot be read.
        """
        with self._lock:
            if self._commits is None:
                self._shards.refresh()
                try:
                    accounts = read_accounts(self._reader)
                except sqlite3.Error as error:
                    raise explain(self.path, error) from error
                self._accounts = sum_up(accounts, self._shards.accounts)
            accounts = {account: replace(sums) for account, sums in self._accounts.items()}
        return totals(accounts)

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in the order of writing, including pending ones.

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
                break
            place = page[-1].place
            yield from map(self._entry, page)
        yield from (self._entry(call) for call in self._shards.calls() if not self._has(call.key))

    def close(self) -> None:
        """Write pending calls, unless writing has failed, and close. Safe to call twice."""
        # The reader first: SQLite tidies up when the last connection that may write is closed.
        self._opened.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _entry(self, call: Call) -> Entry:
        try:
            return from_call(call)
        except ValueError as error:
            raise damaged(self.path, str(error)) from error


def _open_others(reuse: Sequence[Path], opened: ExitStack) -> list[Ledger]:
    return [
        opened.enter_context(Ledger.open(Layout(local_copy(folder)).ledger, read_only=True))
        for folder in reuse
    ]


def _filter_of(reader: sqlite3.Connection, path: Path) -> KeyFilter:
    keys = KeyFilter()
    try:
        for joined in read_keys(reader):
            keys.update(joined)
    except sqlite3.Error as error:
        raise explain(path, error) from error
    return keys
