from hypothesis import given, strategies as st

from rlaif.records.identity import content_id
from rlaif.runs.ids import KeyFilter

KEYS = st.lists(st.binary(min_size=16, max_size=16), max_size=20)


def key(number: int) -> bytes:
    return bytes.fromhex(content_id("call", number))


@given(one_by_one=KEYS, together=KEYS)
def test_added_keys_are_found_however_they_were_added(one_by_one, together):
    keys = KeyFilter()
    for one in one_by_one:
        keys.add(one)
    keys.update(b"".join(together))
    assert all(keys.may_hold(one) for one in one_by_one + together)


def test_an_empty_filter_contains_no_key():
    assert not KeyFilter().may_hold(key(0))
    assert not KeyFilter().may_hold(bytes(16))


def test_a_hundred_thousand_keys_give_almost_no_false_positives():
    keys = KeyFilter()
    keys.update(b"".join(map(key, range(100_000))))
    assert sum(keys.may_hold(key(number)) for number in range(100_000, 110_000)) <= 1
