"""Processes that make a run are killed, again and again, and nothing promised is ever missing."""

import multiprocessing
import random
import signal
import time
from collections import Counter

import pytest

from rlaif.runs import open_run, read_rows
from rlaif.runs.ledger.group_commit import GROUP_ROWS
from rlaif.runs.ledger.ledger import Ledger
from tests.runs.crashing import (
    CALLS,
    make_made_row,
    make_rows,
    make_rows_and_die,
)
from tests.runs.made import make_key, row_bytes

KILLS = 24
MANY, FEW = 300, 60
"""Rows of a run."""


@pytest.fixture(scope="module")
def context():
    """Processes that start in milliseconds: forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.runs.crashing"])
    return context


def test_kills_at_any_moment_lose_nothing_and_double_nothing(tmp_path, context):
    randomness = random.Random(20)
    kills = 0
    for round_number in range(100):
        folder = tmp_path / str(round_number)
        folder.mkdir()
        run, asked, safe = folder / "run", folder / "asked", folder / "safe"
        written: dict[str, bytes] = {}
        killed_here = 0
        while True:
            process = context.Process(target=make_rows, args=(MANY, run, asked, safe))
            process.start()
            if kills < KILLS:
                if kills % 4:
                    wait_for_work(process, asked)
                time.sleep(randomness.uniform(0.0, 0.1))
                process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
            if process.exitcode == 0:
                break
            kills += 1
            killed_here += 1
            check_promises(run, safe, written)
        check_end(MANY, run, asked, written, killed_here)
        if kills >= KILLS:
            break
    assert kills >= KILLS


@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("before a commit", 2),
        ("after a commit", 2),
        ("before a shard", 2),
        ("after a shard", 2),
        ("before failures", 2),
        ("before the sync of a file", 1),  # the manifest
        ("before the sync of a file", 5),  # the first shard
        ("before a rename", 1),  # the manifest
        ("before a rename", 2),  # the empty ledger
        ("before a rename", 3),  # the first shard
        ("after a rename", 3),
    ],
)
def test_dying_at_every_step_of_writing_loses_nothing(tmp_path, context, point, count):
    run, asked, safe = tmp_path / "run", tmp_path / "asked", tmp_path / "safe"
    written: dict[str, bytes] = {}
    process = context.Process(target=make_rows_and_die, args=(point, count, FEW, run, asked, safe))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    check_promises(run, safe, written)
    process = context.Process(target=make_rows, args=(FEW, run, asked, safe))
    process.start()
    process.join()
    assert process.exitcode == 0
    check_end(FEW, run, asked, written, 1)


def check_end(count, run, asked, written, kills) -> None:
    """The rows are those of a run nobody disturbed, and little was asked twice."""
    rows = {row.id: row_bytes(row) for row in read_rows(run / "shards")}
    assert written.items() <= rows.items()
    assert sorted(rows.values()) == sorted(
        row_bytes(make_made_row(n, [f"answer {n * CALLS + call}" for call in range(CALLS)]))
        for n in range(count)
    )
    assert list(run.rglob("*.tmp")) == []
    times = Counter(asked.read_text().split())
    assert len(times) == count * CALLS
    assert times.total() - len(times) <= kills * (GROUP_ROWS + CALLS)


def wait_for_work(process, asked) -> None:
    """Let it get to its calls; the other kills hit while it opens the run."""
    before = asked.stat().st_size if asked.exists() else 0
    while process.is_alive() and (asked.stat().st_size if asked.exists() else 0) == before:
        time.sleep(0.001)


def check_promises(run, safe, written) -> None:
    """Whatever a flush promised is there, whole and unchanged, and so are the calls behind it."""
    if not (run / "manifest.json").exists():
        assert not safe.exists() or not safe.read_text()
        return
    status = open_run(run).status(verify=True)
    assert status.damaged == {}
    rows = list(read_rows(run / "shards"))
    found = {row.id: row_bytes(row) for row in rows}
    assert len(rows) == len(found) == status.rows
    assert written.items() <= found.items()
    written.update(found)
    promised = safe.read_text().split() if safe.exists() else []
    assert set(promised) <= set(found)
    if rows:
        with Ledger.open(run / "ledger.sqlite", read_only=True) as ledger:
            keys = {entry.key for entry in ledger.entries()}
        for row in rows:
            number = int(row.prompt.id.removeprefix("p"))
            assert keys.issuperset(make_key(number * CALLS + call) for call in range(CALLS))
