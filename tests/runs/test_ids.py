import threading

import pytest
from hypothesis import given, settings, strategies as st

from rlaif.runs import IdSet
from rlaif.runs.ids import WIDTH

some_ids = st.binary(min_size=WIDTH, max_size=WIDTH) | st.integers(0, 20).map(
    lambda number: number.to_bytes(2, "big").ljust(WIDTH, b"\0")
)


@given(st.lists(some_ids), st.lists(some_ids), st.lists(some_ids))
@settings(deadline=None)
def test_it_is_a_set(first, bulk, later):
    ids, model = IdSet(first), set(first)
    for one in later:
        assert ids.add(one) == (one not in model)
        model.add(one)
    ids.update(b"".join(bulk))
    model |= set(bulk)
    assert set(ids) == model
    assert len(ids) == len(model)
    assert all(one in ids for one in model)
    assert (bytes(WIDTH) in ids) == (bytes(WIDTH) in model)


def test_ids_that_end_in_zero_bytes_stay_whole():
    ids = IdSet()
    ids.update(b"a".ljust(WIDTH, b"\0"))
    assert list(ids) == [b"a".ljust(WIDTH, b"\0")]


def test_text_is_no_id():
    with pytest.raises(ValueError, match="16 bytes"):
        assert IdSet().__contains__("00" * WIDTH)
    with pytest.raises(ValueError, match="16 bytes"):
        IdSet().update(b"short")


def test_an_id_once_in_is_never_missed_by_another_thread():
    ids, stop = IdSet(), threading.Event()
    missed: list[bytes] = []
    added: list[bytes] = []

    def ask() -> None:
        while not stop.is_set():
            missed.extend(one for one in added[-50:] if one not in ids)

    asker = threading.Thread(target=ask)
    asker.start()
    for number in range(30_000):
        one = (number * 7919 % 30_011).to_bytes(WIDTH, "big")
        ids.add(one)
        added.append(one)
    stop.set()
    asker.join()
    assert missed == []
    assert len(ids) == 30_000
