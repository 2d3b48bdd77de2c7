import threading
import time
from collections.abc import Sequence

import pytest

from rlaif.engines import Sampling
from rlaif.engines.local.calls import GeneratedSequence, PendingCall, ScoreRequest
from rlaif.engines.local.queue import Limits, NextBatch, Queue


def limits(**changes: int) -> Limits:
    defaults = {"rows": 8, "tokens": 1000, "prefill_tokens": 500, "logits": 10**6, "pass_cost": 10}
    return Limits(**{**defaults, **changes})


def queue(
    workers: int = 1, *, wait: float = 0.0, shares: bool = True, vocabulary: int = 100
) -> Queue:
    return Queue(workers=workers, wait=wait, vocabulary=vocabulary, shares_prefixes=shares)


def score_request(*ids: int, first: int | None = None) -> ScoreRequest:
    return ScoreRequest(PendingCall(1), list(ids), len(ids) - 1 if first is None else first)


def row() -> GeneratedSequence:
    return GeneratedSequence(PendingCall(1), (0,), [1], False, Sampling(), 0, 5)


def take(
    waiting: Queue,
    *,
    room: int = 8,
    busy: bool = True,
    of: Limits | None = None,
    kept: Sequence[int] = (),
) -> NextBatch:
    work = waiting.take(room=room, busy=busy, limits=of or limits(), kept=kept)
    assert work is not None
    return work


def test_rows_are_taken_in_order_and_only_as_many_as_there_is_room_for():
    waiting, rows = queue(), [row() for _ in range(5)]
    waiting.put(rows=rows)
    assert list(take(waiting, room=3).rows) == rows[:3]
    assert list(take(waiting, room=3).rows) == rows[3:]


def test_a_worker_takes_its_share_and_leaves_the_others_theirs():
    waiting, rows = queue(workers=2), [row() for _ in range(5)]
    waiting.put(rows=rows)
    assert len(take(waiting).rows) == 3
    assert len(take(waiting).rows) == 1


def test_readings_with_a_long_common_prefix_are_read_together():
    shared = tuple(range(60))
    same, other = [score_request(*shared, n, n) for n in range(3)], score_request(*range(500, 560))
    waiting = queue()
    waiting.put(requests=[same[0], other, *same[1:]])
    assert set(take(waiting).requests) == set(same)
    assert list(take(waiting).requests) == [other]


def test_without_prefix_sharing_padding_alone_decides():
    shared = tuple(range(60))
    waiting = queue(shares=False)
    waiting.put(
        requests=[
            score_request(*shared, 1),
            score_request(*shared, 2),
            score_request(*shared, *range(90)),
        ]
    )
    assert [len(one.ids) for one in take(waiting).requests] == [61, 61]


def test_a_prefix_ends_where_the_first_thing_is_asked():
    long = tuple(range(60))
    waiting = queue()
    waiting.put(requests=[score_request(*long, 1, first=3), score_request(*long, 2, *range(80))])
    assert len(take(waiting).requests) == 1  # with 3 tokens to share, padding costs more


def test_what_a_worker_has_just_read_costs_nothing_more():
    shared = tuple(range(60))
    both = [score_request(*shared, 1), score_request(*shared, 2, *range(70, 90))]
    waiting = queue()
    waiting.put(requests=both)
    assert len(take(waiting).requests) == 2  # padding 20 is cheaper than reading 60 again
    waiting.put(requests=both)
    assert len(take(waiting, kept=shared).requests) == 1


def test_cheap_passes_are_not_merged_at_the_price_of_padding():
    short, long = score_request(1, 2, 3), score_request(9, *range(40))
    waiting = queue()
    waiting.put(requests=[short, long])
    assert list(take(waiting).requests) == [short]
    waiting = queue()
    waiting.put(requests=[score_request(1, 2, 3), score_request(9, *range(40))])
    assert len(take(waiting, of=limits(pass_cost=100)).requests) == 2


@pytest.mark.parametrize(
    "of",
    [limits(prefill_tokens=25, pass_cost=1000), limits(logits=299, pass_cost=1000)],
    ids=["tokens", "logits"],
)
def test_a_batch_ends_at_its_limits(of: Limits):
    waiting = queue(shares=False, vocabulary=100)
    waiting.put(requests=[score_request(n, *range(9)) for n in range(5)])
    assert [len(take(waiting, of=of).requests) for _ in range(3)] == [2, 2, 1]


def test_the_oldest_reading_is_always_served():
    first, rest = score_request(500, 501), [score_request(n, n) for n in range(9)]
    waiting = queue()
    waiting.put(requests=[first])
    waiting.put(requests=rest)
    assert first in take(waiting).requests


def test_what_nobody_waits_for_is_not_handed_out():
    waiting, rows, requests = queue(), [row(), row()], [score_request(1, 2), score_request(1, 3)]
    waiting.put(rows=rows, requests=requests)
    rows[0].call.future.cancel()
    requests[0].call.future.cancel()
    work = take(waiting)
    assert list(work.rows) == rows[1:]
    assert list(work.requests) == requests[1:]


def test_an_idle_worker_waits_for_more_until_it_is_quiet():
    waiting = queue(wait=1.0)

    def calls() -> None:
        for _ in range(4):
            waiting.put(rows=[row()])
            time.sleep(0.02)

    thread = threading.Thread(target=calls)
    thread.start()
    assert len(take(waiting, busy=False).rows) == 4
    thread.join()


def test_closing_wakes_the_idle_and_hands_back_what_nobody_took():
    waiting, left = queue(), row()
    woken: list[NextBatch | None] = []
    thread = threading.Thread(
        target=lambda: woken.append(waiting.take(room=1, busy=False, limits=limits()))
    )
    thread.start()
    assert waiting.close() == []
    thread.join(5)
    assert woken == [None]
    assert not waiting.put(rows=[left])
    other = queue()
    other.put(rows=[left])
    assert other.close() == [left]
    assert other.take(room=1, busy=True, limits=limits()) is None
