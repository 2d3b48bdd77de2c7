from hypothesis import given, strategies as st

from rlaif.records.identity import content_id
from rlaif.runs.ledger.key_filter import KeyFilter

KEYS = st.lists(st.binary(min_size=16, max_size=16), max_size=20)


def key(number: int) -> bytes:
    return bytes.fromhex(content_id("call", number))


@given(one_by_one=KEYS, together=KEYS)
def test_what_was_added_is_held_whichever_way_it_came(one_by_one, together):
    keys = KeyFilter()
    for one in one_by_one:
        keys.add(one)
    keys.update(b"".join(together))
    assert all(keys.may_hold(one) for one in one_by_one + together)


def test_an_empty_filter_holds_nothing():
    assert not KeyFilter().may_hold(key(0))
    assert not KeyFilter().may_hold(bytes(16))


def test_of_a_hundred_thousand_keys_next_to_no_other_looks_held():
    keys = KeyFilter()
    keys.update(b"".join(map(key, range(100_000))))
    assert sum(keys.may_hold(key(number)) for number in range(100_000, 110_000)) <= 1
