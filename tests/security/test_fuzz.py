"""A small part of the fuzzes at every test run; by hand they run on thousands."""

import signal
from pathlib import Path

from tests.security.fuzz import TARGETS, fuzz
from tests.security.fuzz_replies import JUDGES, read_odd_replies, run_odd_pipeline

CASES = 40


def test_no_damaged_file_ends_in_a_traceback_or_hangs():
    before = signal.getsignal(signal.SIGALRM)
    try:
        falls = list(fuzz(seed=20, cases=range(CASES)))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert falls == []
    assert len(TARGETS) < CASES


def test_odd_replies_are_read_or_abstained_from():
    read_odd_replies(seed=20, count=3_000)


def test_odd_replies_end_as_rows_and_failures_that_add_up(tmp_path: Path):
    run, replies = run_odd_pipeline(tmp_path, seed=20, prompts=12)
    assert replies > 12 * len(JUDGES)
    assert run.status().abstained > 0
