import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings, strategies as st

from rlaif.runs import IdSet
from rlaif.runs.ids import WIDTH

# Ids that begin alike occur in no run: they are hashes.
some_starts = st.binary(max_size=WIDTH - 4) | st.integers(0, 20).map(
    lambda number: number.to_bytes(2, "big")
)
some_ids = some_starts.map(lambda start: start.ljust(WIDTH, b"\0"))


@given(st.lists(some_ids), st.lists(some_ids), st.lists(some_ids))
@settings(deadline=None)
def test_it_is_a_set(first, bulk, later):
    ids, model = IdSet(first), set(first)
    for one in later:
        assert ids.add(one) == (one not in model)
        model.add(one)
    ids.update(b"".join(bulk))
    model |= set(bulk)
    assert len(ids) == len(model)
    assert all(one in ids for one in model)
    assert (bytes(WIDTH) in ids) == (bytes(WIDTH) in model)
    assert IdSet(bulk).count_common(ids) == len(set(bulk))
    assert ids.count_common(IdSet(first)) == len(set(first))
    assert IdSet(first).count_common(IdSet(bulk)) == len(set(first) & set(bulk))


def test_ids_that_end_in_zero_bytes_differ():
    ids = IdSet([b"a".ljust(WIDTH, b"\0"), b"a\0b".ljust(WIDTH, b"\0"), bytes(WIDTH)])
    assert len(ids) == 3
    assert b"a\0b".ljust(WIDTH, b"\0") in ids
    assert b"a\0c".ljust(WIDTH, b"\0") not in ids


def test_text_is_not_an_id():
    with pytest.raises(ValueError, match="16 bytes"):
        assert IdSet().__contains__("00" * WIDTH)
    with pytest.raises(ValueError, match="16 bytes"):
        IdSet().update(b"short")


def test_an_added_id_is_always_found_by_other_threads():
    ids, stop = IdSet(), threading.Event()
    missed: list[bytes] = []
    added: list[bytes] = []

    def ask() -> None:
        while not stop.is_set():
            missed.extend(one for one in added[-50:] if one not in ids)

    asker = threading.Thread(target=ask)
    asker.start()
    for number in range(30_000):
        one = (number * 7919 % 30_011).to_bytes(2, "big").ljust(WIDTH, b"\0")
        ids.add(one)
        added.append(one)
    stop.set()
    asker.join()
    assert missed == []
    assert len(ids) == 30_000


def test_an_id_takes_a_few_bytes_whichever_threads_add_it():
    taken = subprocess.run([sys.executable, "-c", FILLING], capture_output=True, check=True)
    assert 8 < float(taken.stdout) < 20


FILLING = """
import hashlib, threading
from pathlib import Path
from rlaif.runs import IdSet

ids = IdSet()

def fill(numbers):
    for number in numbers:
        ids.add(hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).digest())

def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

for start in range(0, 300_000, 500):
    if start == 100_000:
        before = peak()
    thread = threading.Thread(target=fill, args=[range(start, start + 500)])
    thread.start()
    thread.join()
print((peak() - before) / 200_000)
"""
