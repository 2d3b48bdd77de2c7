"""The ledger's SQLite file: tables, statements, and clear errors.

``calls`` has one reply per key, in the order of writing, with an index over the keys: commits cost
less than half as much as with a table clustered by key, because keys are random and replies long.
``accounts`` has the sums by purpose and engine, so that the spend is read without the replies.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import astuple
from pathlib import Path
from shlex import quote as quoted
from urllib.parse import quote

from rlaif.errors import RunError, RunMismatch
from rlaif.runs.files import PARTIAL, cannot_write, sync_folder
from rlaif.runs.ledger.entry import Account, Call, Sums

FORMAT_NUMBER = 1
"""Stored as ``user_version`` of the file. Raise it with every change of the tables."""

_CHECKED_BYTES = 8 << 20
"""Files up to this size are checked completely when opened, which takes milliseconds; damage in
larger ones is noticed when it is read."""

_CACHE_KIB = 32768
"""Enough for the index over a million keys."""

_JOURNAL_PAGES = 4096
"""Pages of journal before a checkpoint: a page that changes several times is copied once."""

_KEYS_PAGE = 1 << 14

_WAIT_SECONDS = 30.0
"""How long to wait for another process that has locked the file."""

_TABLES = """
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    purpose TEXT NOT NULL,
    engine TEXT NOT NULL,
    reused INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    price REAL NOT NULL,
    unpriced INTEGER NOT NULL,
    UNIQUE (purpose, engine, reused)
);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL,
    reply BLOB NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    price REAL,
    created REAL NOT NULL,
    checksum INTEGER NOT NULL
);
"""

_ADD_TO_ACCOUNT = """
INSERT INTO accounts (purpose, engine, reused, calls, prompt_tokens, completion_tokens,
                      cached_tokens, price, unpriced)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (purpose, engine, reused) DO UPDATE SET
    calls = calls + excluded.calls,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    price = price + excluded.price,
    unpriced = unpriced + excluded.unpriced
RETURNING id
"""

_ADD_CALL = """
INSERT INTO calls (key, account, reply, prompt_tokens, completion_tokens, cached_tokens, price,
                   created, checksum)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO NOTHING
"""

_ACCOUNTS = """
SELECT purpose, engine, reused, calls, prompt_tokens, completion_tokens, cached_tokens, price,
       unpriced
FROM accounts ORDER BY id
"""

_CALLS = """
SELECT key, purpose, engine, reused, reply, calls.prompt_tokens, calls.completion_tokens,
       calls.cached_tokens, calls.price, created, checksum, calls.id
FROM calls JOIN accounts ON accounts.id = calls.account
"""
_ONE_CALL = f"{_CALLS} WHERE key = ?"
_PAGE = f"{_CALLS} WHERE calls.id > ? ORDER BY calls.id LIMIT 500"


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open and check the file; create it unless ``read_only``.

    Raises:
        RunError: Missing (``read_only``), damaged, unreadable, or not a ledger.
        RunMismatch: Written by a newer version.
    """
    if read_only and not path.is_file():
        raise RunError(f"{path}: ledger not found")
    try:
        if not path.is_file():
            _create(path)
        connection = _connect_read_only(path) if read_only else _connect(path, "rw")
        try:
            _check(connection, path)
            if not read_only:
                _prepare_writing(connection)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explain(path, error) from error
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=_WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _connect_read_only(path: Path) -> sqlite3.Connection:
    # Opened for writing where possible, because a reader that may not write leaves SQLite's side
    # files behind; `query_only` keeps it from changing anything.
    connection = _connect(path, "rw")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        journal = path.with_name(f"{path.name}-wal")
        if journal.exists() and journal.stat().st_size:
            raise
        # No journal, and none can be written: the file cannot change while it is read.
        return _connect(path, "ro&immutable=1")
    connection.execute("PRAGMA query_only = 1")
    return connection


def _create(path: Path) -> None:
    """Create an empty ledger atomically, with its tables."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with closing(_connect(partial, "rwc")) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.executescript(f"{_TABLES} PRAGMA user_version = {FORMAT_NUMBER};")
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def _prepare_writing(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_JOURNAL_PAGES}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    number = connection.execute("PRAGMA user_version").fetchone()[0]
    if number > FORMAT_NUMBER:
        raise RunMismatch(
            f"{path}: written by a newer version (ledger {number}, this one supports "
            f"{FORMAT_NUMBER})",
            hint="pip install --upgrade constitutional-rlaif",
        )
    if number == 0:
        raise damaged(path, "it is empty or not a ledger")
    if path.stat().st_size <= _CHECKED_BYTES:
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise damaged(path, " ".join(result.split()))


def open_empty() -> sqlite3.Connection:
    """Open an empty ledger in memory, for runs whose replies are all in shards."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.executescript(_TABLES)
    return connection


def read_keys(connection: sqlite3.Connection) -> Iterator[bytes]:
    """Yield every key, many at a time, concatenated without separators."""
    cursor = connection.execute("SELECT key FROM calls")
    while page := cursor.fetchmany(_KEYS_PAGE):
        yield b"".join(key for (key,) in page)


def find_call(connection: sqlite3.Connection, key: bytes) -> Call | None:
    """Look one call up."""
    row = connection.execute(_ONE_CALL, (key,)).fetchone()
    return None if row is None else Call(*row)


def read_page(connection: sqlite3.Connection, after: int) -> list[Call]:
    """Return the next 500 calls after a place, in order of writing; none at the end."""
    return [Call(*row) for row in connection.execute(_PAGE, (after,))]


def read_accounts(connection: sqlite3.Connection) -> dict[Account, Sums]:
    """Return the sums so far, by account."""
    return {
        Account(purpose, engine, bool(reused)): Sums(*numbers)
        for purpose, engine, reused, *numbers in connection.execute(_ACCOUNTS)
    }


def write_calls(connection: sqlite3.Connection, calls: Sequence[Call]) -> None:
    """Commit calls and their accounts together. An existing key keeps its reply."""
    groups: dict[Account, Sums] = {}
    for call in calls:
        groups.setdefault(call.account, Sums()).add(call)
    connection.execute("BEGIN IMMEDIATE")
    try:
        accounts = {
            account: connection.execute(_ADD_TO_ACCOUNT, (*account, *astuple(sums))).fetchone()[0]
            for account, sums in groups.items()
        }
        connection.executemany(
            _ADD_CALL, [(call.key, accounts[call.account], *call[4:11]) for call in calls]
        )
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def explain(path: Path, error: Exception) -> RunError:
    """Explain an error of SQLite."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return damaged(path, str(error))
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")):
        return RunError(
            f"{path}: the disk is full (or a size limit was reached)",
            hint="free disk space and repeat the command; everything written before is kept",
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return RunError(
            f"{path}: cannot be opened for writing ({error})",
            hint="make the folder writable; a ledger after a crash needs that even for reading",
        )
    if name.startswith("SQLITE_BUSY"):
        return RunError(f"{path}: another process keeps it locked", hint="repeat the command")
    return RunError(f"{path}: {error} ({name or type(error).__name__})")


def damaged(path: Path, why: str) -> RunError:
    """Return the error for a damaged file, with the fix."""
    aside = quoted(str(path.with_name(f"{path.stem}.damaged")))
    return RunError(
        f"{path}: damaged ledger: {why}",
        hint=f"mkdir -p {aside} && mv {quoted(str(path))}* {aside}/ and repeat the command: "
        "finished rows are safe in the shards, only prompts without a row are processed again; "
        "earlier spend is then no longer counted",
    )
