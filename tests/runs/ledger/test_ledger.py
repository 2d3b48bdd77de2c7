import asyncio
import math
import sqlite3
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from rlaif.errors import InputError, RunError, RunMismatch
from rlaif.runs import Entry, Ledger
from rlaif.runs.ledger import file as ledger_file, group_commit, ledger as ledger_module
from rlaif.runs.ledger.entry import Call
from tests.runs.made import make_entry, make_key


def committed(path) -> int:
    """How many calls another process would see."""
    connection = sqlite3.connect(path)
    count = connection.execute("SELECT count(*) FROM calls").fetchone()[0]
    connection.close()
    return int(count)


def look_up(ledger: Ledger, number: int) -> Entry:
    entry = ledger.get(make_key(number))
    assert entry is not None
    return entry


def test_an_entry_is_there_at_once_and_after_reopening(tmp_path):
    path = tmp_path / "ledger.sqlite"
    entry = make_entry(1, price=0.25, cached_tokens=4, created=1.5)
    with Ledger.open(path) as ledger:
        assert ledger.get(entry.key) is None
        ledger.put(entry)
        assert ledger.get(entry.key) == entry
        ledger.flush()
        assert ledger.get(entry.key) == entry
    with Ledger.open(path) as ledger:
        assert ledger.get(entry.key) == entry


def test_what_is_put_is_durable_within_the_promised_time_without_a_flush(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        start = time.monotonic()
        ledger.put(make_entry(1))
        while committed(path) == 0:
            assert time.monotonic() - start < 5.0
            time.sleep(0.01)


def test_closing_writes_what_is_left(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        for number in range(450):
            ledger.put(make_entry(number))
    assert committed(path) == 450
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_groups_are_never_larger_than_promised(tmp_path, monkeypatch):
    sizes = []
    write = ledger_file.write_calls

    def spying(connection, calls):
        sizes.append(len(calls))
        write(connection, calls)

    monkeypatch.setattr(ledger_module, "write_calls", spying)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        for number in range(1001):
            ledger.put(make_entry(number))
        ledger.flush()
    assert sum(sizes) == 1001
    assert max(sizes) <= group_commit.GROUP_ROWS


def test_the_first_reply_stays_and_both_are_paid_for(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger.put(make_entry(1, text="first", price=1.0))
        ledger.put(make_entry(1, text="second", price=1.0))
        assert look_up(ledger, 1).reply == {"text": "first"}
        ledger.flush()
        ledger.put(make_entry(1, text="third", price=1.0))
        ledger.flush()
        assert look_up(ledger, 1).reply == {"text": "first"}
        assert [entry.reply["text"] for entry in ledger.entries()] == ["first"]
        (total,) = ledger.totals()
        assert (total.calls, total.price) == (3, 3.0)


def test_totals_are_by_purpose_and_engine_and_survive(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.put(make_entry(1, purpose="sample", engine="student"))
        ledger.put(make_entry(2, price=0.5, cached_tokens=3))
        ledger.flush()
        ledger.put(make_entry(3, price=0.25))
        ledger.put(make_entry(4))
        ledger.put(make_entry(5, price=9.0, reused=True))
        before = ledger.totals()
    sample, judge = before
    assert (sample.purpose, sample.engine, sample.calls) == ("sample", "student", 1)
    assert (sample.price, sample.unpriced) == (None, 1)
    assert (judge.calls, judge.prompt_tokens, judge.completion_tokens) == (3, 30, 6)
    assert (judge.cached_tokens, judge.price, judge.unpriced, judge.reused) == (3, 0.75, 1, 1)
    with Ledger.open(path, read_only=True) as ledger:
        assert ledger.totals() == before


def test_a_reader_sees_what_a_writer_commits_meanwhile(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as writer, Ledger.open(path, read_only=True) as reader:
        for number in range(3):
            writer.put(make_entry(number))
            writer.flush()
            assert reader.get(make_key(number)) is not None
            assert reader.totals()[0].calls == number + 1
        with pytest.raises(RunError, match="read-only"):
            reader.put(make_entry(9))


def test_entries_come_in_order_of_writing(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        numbers = [number * 7919 % 1201 for number in range(1201)]
        for number in numbers:
            ledger.put(make_entry(number))
        assert [entry.key for entry in ledger.entries()] == [make_key(n) for n in numbers]


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "half \ud83d", "logprob": None},
        {"logprob": -math.inf, "label_logprobs": [math.inf, None, -0.5]},
        {"text": "\x00\u2028", "big": 2**80, "deep": {"a": [{"b": []}]}},
        {},
    ],
)
def test_a_reply_comes_back_exactly(tmp_path, reply):
    path = tmp_path / "ledger.sqlite"
    entry = replace(make_entry(1), reply=reply)
    with Ledger.open(path) as ledger:
        ledger.put(entry)
        assert ledger.get(entry.key) == entry
    with Ledger.open(path) as ledger:
        assert ledger.get(entry.key) == entry


def test_invalid_json_and_invalid_keys_are_refused_at_once(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(TypeError):
            ledger.put(replace(make_entry(1), reply={"text": object()}))
        with pytest.raises(ValueError, match="32 hex digits"):
            ledger.get("abcd")
        ledger.put(make_entry(2))
        ledger.flush()
        assert len(list(ledger.entries())) == 1


def test_a_reply_of_another_run_is_copied_and_costs_nothing(tmp_path):
    for name, number in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        with Ledger.open(tmp_path / name / "ledger.sqlite") as ledger:
            ledger.put(make_entry(number, text=name, price=1.0))
    own, reuse = tmp_path / "own.sqlite", [tmp_path / "one", tmp_path / "two"]
    with Ledger.open(own, reuse=reuse) as ledger:
        assert ledger.get(make_key(1)) == ledger.get(make_key(1))
        assert look_up(ledger, 2).reply == {"text": "two"}
        assert look_up(ledger, 2).reused
        assert ledger.get(make_key(3)) is None
        (total,) = ledger.totals()
        assert (total.calls, total.reused, total.price) == (0, 2, None)
    with Ledger.open(own) as ledger:
        assert look_up(ledger, 1).reply == {"text": "one"}
    with Ledger.open(tmp_path / "one" / "ledger.sqlite") as ledger:
        assert ledger.totals()[0].calls == 1


def test_reusing_a_folder_that_is_not_a_run_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="ledger not found"):
        Ledger.open(tmp_path / "ledger.sqlite", reuse=[tmp_path / "absent"])
    assert list(tmp_path.iterdir()) == []


def test_a_newer_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for read_only in (True, False):
        with pytest.raises(RunMismatch, match="newer version"):
            Ledger.open(path, read_only=read_only)


def test_a_foreign_database_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(RunError, match="it is empty or not a ledger"):
        Ledger.open(path)


def test_a_missing_ledger_cannot_be_read(tmp_path):
    with pytest.raises(RunError, match="ledger not found"):
        Ledger.open(tmp_path / "ledger.sqlite", read_only=True)


def test_put_blocks_while_too_many_bytes_wait_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(group_commit, "QUEUE_BYTES", 20_000)
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.flush()
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")  # nobody can commit now
        put = []

        def many() -> None:
            for number in range(300):
                ledger.put(make_entry(number))
                put.append(number)

        thread = threading.Thread(target=many)
        thread.start()
        thread.join(timeout=1.0)
        assert thread.is_alive()
        assert 20 < len(put) < 100
        blocker.execute("ROLLBACK")
        blocker.close()
        thread.join(timeout=20.0)
        assert not thread.is_alive()
        ledger.flush()
    assert committed(path) == 300


async def test_putting_does_not_hold_up_an_event_loop(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        for number in range(1000):
            ledger.put(make_entry(number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert look_up(ledger, 999).reply == {"text": "yes"}
        assert time.monotonic() - start < 5.0
        blocker.execute("ROLLBACK")
        blocker.close()


def test_a_failed_write_is_raised_by_the_next_put_and_flush(tmp_path, monkeypatch):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.put(make_entry(1))
        ledger.flush()

        def broken(connection, calls):
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(ledger_module, "write_calls", broken)
        ledger.put(make_entry(2))
        with pytest.raises(RunError, match=r"ledger\.sqlite: disk I/O error"):
            ledger.flush()
        with pytest.raises(RunError, match="disk I/O error"):
            ledger.put(make_entry(3))
        assert ledger.get(make_key(2)) is not None
    assert committed(path) == 1


def test_a_closed_ledger_takes_nothing(tmp_path):
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.close()
    ledger.close()
    with pytest.raises(RunError, match="closed"):
        ledger.put(make_entry(1))


def fill(path, count: int) -> None:
    with Ledger.open(path) as ledger:
        for number in range(count):
            ledger.put(make_entry(number, text="x" * 1000))


def spoil_pages(path, first: int, last: int) -> None:
    """Overwrite pages with noise, as a failing disk does."""
    with path.open("r+b") as file:
        file.seek(first * 4096)
        file.write(b"\xa5" * 4096 * (last - first))


def test_a_corrupted_page_in_a_small_ledger_is_found_when_opening(tmp_path):
    path = tmp_path / "ledger.sqlite"
    fill(path, 1000)
    spoil_pages(path, 50, 51)
    with pytest.raises(RunError, match=r"ledger\.sqlite: damaged ledger"):
        Ledger.open(path)


def test_corrupted_pages_in_a_large_ledger_are_found_when_read(tmp_path):
    path = tmp_path / "ledger.sqlite"
    fill(path, 9000)
    assert path.stat().st_size > 8 << 20
    spoil_pages(path, 1000, 1040)
    with Ledger.open(path) as ledger:
        assert look_up(ledger, 0).reply == {"text": "x" * 1000}
        with pytest.raises(RunError, match="damaged ledger") as caught:
            list(ledger.entries())
    # The way out that the hint names, carried out word for word.
    command = caught.value.hint.partition(" and repeat")[0]
    subprocess.run(["sh", "-c", command], check=True)
    fill(path, 10)
    assert committed(path) == 10
    assert (tmp_path / "ledger.damaged" / "ledger.sqlite").exists()


def test_a_changed_byte_in_a_reply_is_noticed(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.put(make_entry(1, text="the verdict is A"))
    data = path.read_bytes()
    assert data.count(b"the verdict is A") == 1
    path.write_bytes(data.replace(b"the verdict is A", b"the verdict is B"))
    with Ledger.open(path) as ledger, pytest.raises(RunError, match="does not match its checksum"):
        ledger.get(make_key(1))


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_ledger_cut_short_is_damaged(tmp_path, size):
    path = tmp_path / "ledger.sqlite"
    fill(path, 20)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(RunError, match="damaged"):
        Ledger.open(path)


def test_entries_are_values():
    assert make_entry(1, created=1.0) == make_entry(1, created=1.0)
    assert Entry("00" * 16, "judge", "main", {}).price is None


def test_a_new_key_needs_no_disk_access(tmp_path, monkeypatch):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.put(make_entry(1))
    with Ledger.open(path) as ledger:
        looked: list[bytes] = []
        real = ledger_file.find_call

        def find(connection: sqlite3.Connection, key: bytes) -> Call | None:
            looked.append(key)
            return real(connection, key)

        monkeypatch.setattr(ledger_module, "find_call", find)
        assert ledger.get(make_key(2)) is None
        assert not looked
        look_up(ledger, 1)
        assert len(looked) == 1


def test_a_reader_finds_what_a_writer_puts_meanwhile(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as writer, Ledger.open(path, read_only=True) as reader:
        assert reader.get(make_key(1)) is None
        writer.put(make_entry(1))
        writer.flush()
        look_up(reader, 1)
