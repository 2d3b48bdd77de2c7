"""The three limits, with times written by hand: no clock, no sleep."""

import math

import pytest
from hypothesis import given, strategies as st

from rlaif.engines.traffic.limits import AdaptiveLimit, Bucket, CircuitBreaker


def run_round(limit: AdaptiveLimit, now: float, *, successes: int, at_once: int) -> None:
    """Succeed ``successes`` times with ``at_once`` calls in flight."""
    taken = 0
    while taken < at_once and limit.try_acquire(now):
        taken += 1
    for _ in range(successes):
        limit.succeeded(now, first_try=True)
    for _ in range(taken):
        limit.release()


def test_the_limit_starts_at_20_between_10_and_the_maximum():
    limit = AdaptiveLimit(maximum=100)
    assert (limit.limit, limit.minimum, limit.maximum) == (20, 10, 100)


def test_start_and_minimum_are_cut_to_a_small_maximum():
    limit = AdaptiveLimit(maximum=4)
    assert (limit.limit, limit.minimum) == (4, 4)


def test_no_slot_beyond_the_limit():
    limit = AdaptiveLimit(start=2, minimum=1)
    assert [limit.try_acquire(0.0) for _ in range(3)] == [True, True, False]
    limit.release()
    assert limit.try_acquire(0.0)


def test_a_round_of_as_many_successes_as_slots_doubles_the_limit():
    limit = AdaptiveLimit(maximum=100)
    run_round(limit, 0.0, successes=19, at_once=20)
    assert limit.limit == 20
    run_round(limit, 0.0, successes=1, at_once=0)
    assert limit.limit == 40


def test_a_round_takes_at_least_four_successes():
    limit = AdaptiveLimit(start=1, minimum=1, maximum=100)
    run_round(limit, 0.0, successes=3, at_once=1)
    assert limit.limit == 1
    run_round(limit, 0.0, successes=1, at_once=0)
    assert limit.limit == 2


def test_slow_start_stops_at_the_maximum():
    limit = AdaptiveLimit(maximum=30)
    run_round(limit, 0.0, successes=20, at_once=20)
    assert limit.limit == 30


@pytest.mark.parametrize(("at_once", "after"), [(15, 20), (16, 40)])
def test_a_limit_that_was_not_binding_does_not_grow(at_once: int, after: int):
    # 0.8 · 20 = 16 slots must have been in use at the peak.
    limit = AdaptiveLimit(maximum=100)
    run_round(limit, 0.0, successes=20, at_once=at_once)
    assert limit.limit == after


def test_a_success_after_a_retry_is_neutral():
    limit = AdaptiveLimit(maximum=100)
    run_round(limit, 0.0, successes=19, at_once=20)
    limit.succeeded(0.0, first_try=False)
    assert limit.limit == 20
    limit.succeeded(0.0, first_try=True)
    assert limit.limit == 40


def test_a_429_cuts_to_four_fifths_and_ends_slow_start():
    limit = AdaptiveLimit(start=50, maximum=100)
    assert limit.throttled(100.0)
    assert limit.limit == 40
    assert limit.cooldown_until == 115.0
    # After the cooldown a round adds max(1, round(0.05 · 40)) = 2.
    run_round(limit, 115.0, successes=40, at_once=40)
    assert limit.limit == 42


def test_growth_after_a_429_is_at_least_one_and_stops_at_the_maximum():
    limit = AdaptiveLimit(start=5, minimum=1, maximum=6)
    limit.throttled(0.0)
    assert limit.limit == 4
    for now in (20.0, 21.0, 22.0, 23.0):
        run_round(limit, now, successes=limit.limit, at_once=limit.limit)
    assert limit.limit == 6


def test_a_cut_never_goes_below_the_minimum():
    limit = AdaptiveLimit(start=11, minimum=10, maximum=100)
    limit.throttled(0.0)
    assert limit.limit == 10
    limit.throttled(100.0)
    assert limit.limit == 10


def test_a_longer_retry_after_is_the_cooldown():
    limit = AdaptiveLimit()
    limit.throttled(0.0, 40.0)
    assert limit.cooldown_until == 40.0


def test_a_429_during_the_cooldown_cuts_no_second_time():
    limit = AdaptiveLimit(start=100, maximum=100)
    limit.throttled(0.0)
    assert not limit.throttled(14.9)
    assert (limit.limit, limit.cooldown_until) == (80, 15.0)
    assert limit.throttled(15.0)
    assert limit.limit == 64


def test_a_longer_retry_after_in_the_cooldown_extends_it():
    limit = AdaptiveLimit()
    limit.throttled(0.0)
    limit.throttled(10.0, 3.0)
    assert limit.cooldown_until == 15.0
    limit.throttled(10.0, 20.0)
    assert limit.cooldown_until == 30.0


def test_a_429_in_the_cooldown_starts_the_round_again():
    limit = AdaptiveLimit(start=10, maximum=100)
    limit.throttled(0.0)  # 10 (the minimum), cooldown until 15
    run_round(limit, 15.0, successes=9, at_once=10)
    limit.cooldown_until = 20.0
    limit.throttled(16.0)
    run_round(limit, 20.0, successes=9, at_once=10)
    assert limit.limit == 10
    run_round(limit, 20.0, successes=1, at_once=0)
    assert limit.limit == 11


def test_successes_during_the_cooldown_are_neutral():
    limit = AdaptiveLimit(start=10, maximum=100)
    limit.throttled(0.0)
    run_round(limit, 14.0, successes=50, at_once=10)
    assert limit.limit == 10


def test_slots_taken_during_the_cooldown_are_no_evidence_that_the_limit_binds():
    limit = AdaptiveLimit(start=10, maximum=100)
    limit.throttled(0.0)
    for _ in range(10):
        limit.try_acquire(14.0)
    for _ in range(10):
        limit.release()
        limit.succeeded(15.0, first_try=True)
    assert limit.limit == 10


def test_a_5xx_ends_the_round_without_growth_and_never_shrinks():
    limit = AdaptiveLimit(maximum=100)
    limit.troubled()
    run_round(limit, 0.0, successes=20, at_once=20)
    assert limit.limit == 20
    run_round(limit, 0.0, successes=20, at_once=20)
    assert limit.limit == 40


def test_tightening_takes_the_stricter_bounds():
    limit = AdaptiveLimit(start=50, minimum=10, maximum=100)
    limit.tighten(minimum=20, maximum=30)
    assert (limit.limit, limit.minimum, limit.maximum) == (30, 10, 30)
    limit.tighten(minimum=5, maximum=200)
    assert (limit.minimum, limit.maximum) == (5, 30)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "release", "clean", "retried", "429", "long 429", "5xx"]),
        st.floats(0.0, 5.0),
    ),
    max_size=400,
)


@given(
    EVENTS,
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 80),
)
def test_the_limit_stays_in_bounds_and_no_slot_is_given_beyond_it(events, start, minimum, maximum):
    limit = AdaptiveLimit(start=start, minimum=minimum, maximum=maximum)
    now, held = 0.0, 0
    for event, later in events:
        now += later
        before = limit.limit
        match event:
            case "acquire":
                taken = limit.try_acquire(now)
                assert taken == (held < before)
                held += taken
            case "release" if held:
                limit.release()
                held -= 1
            case "clean":
                limit.succeeded(now, first_try=True)
                assert limit.limit >= before
            case "retried":
                limit.succeeded(now, first_try=False)
                assert limit.limit == before
            case "429":
                limit.throttled(now)
                assert limit.limit <= before
            case "long 429":
                limit.throttled(now, 30.0)
            case "5xx":
                limit.troubled()
                assert limit.limit == before
            case _:
                pass
        assert limit.in_flight == held
        assert limit.minimum <= limit.limit <= limit.maximum


def test_one_request_a_minute_is_one_request_a_minute():
    bucket = Bucket(1)
    assert bucket.wait(0.0, 1.0) == 0.0
    bucket.take(0.0, 1.0)
    assert bucket.wait(0.0, 1.0) == pytest.approx(60.0)
    assert bucket.wait(45.0, 1.0) == pytest.approx(15.0)
    assert bucket.wait(60.0, 1.0) == 0.0


@given(st.floats(1.0, 5000.0), st.lists(st.floats(0.0, 2.0), max_size=200))
def test_no_minute_sees_more_requests_than_allowed(per_minute, pauses):
    bucket = Bucket(per_minute)
    now, taken = 0.0, []
    for pause in pauses:
        now += pause
        now += bucket.wait(now, 1.0)
        # What the waiting loop does: it is woken when the wait is over, never before.
        now += bucket.wait(now, 1.0)
        bucket.take(now, 1.0)
        taken.append(now)
    for start in taken:
        inside = [at for at in taken if start <= at < start + 60.0 - 1e-6]
        assert len(inside) <= math.ceil(per_minute)


def test_a_cost_above_the_bucket_goes_through_and_is_paid_off():
    bucket = Bucket(600)  # holds 10, refills (600 - 10) / 60 a second
    assert bucket.wait(0.0, 100.0) == 0.0
    bucket.take(0.0, 100.0)
    assert bucket.wait(0.0, 1.0) == pytest.approx(91.0 / (590.0 / 60.0))


def test_an_estimate_is_settled_by_what_was_used():
    bucket = Bucket(600)
    bucket.take(0.0, 10.0)
    bucket.settle(0.0, 4.0)
    assert bucket.wait(0.0, 4.0) == 0.0
    bucket.settle(0.0, -4.0)
    assert bucket.wait(0.0, 4.0) > 0.0


def test_a_refused_connection_is_suspect_at_once():
    circuit = CircuitBreaker()
    circuit.failed(0.0, "refused", unreachable=True)
    assert circuit.suspected
    assert circuit.next_probe == 0.0


def test_ten_failures_in_a_row_are_suspect():
    circuit = CircuitBreaker()
    for at in range(9):
        circuit.failed(float(at), "reset")
    assert not circuit.suspected
    circuit.failed(9.0, "reset")
    assert circuit.suspected


def test_one_answer_between_failures_forgets_them():
    circuit = CircuitBreaker()
    for at in range(9):
        circuit.failed(float(at), "reset")
    circuit.answered()
    circuit.failed(9.0, "reset")
    assert not circuit.suspected


def test_a_living_server_is_never_given_up_whatever_its_rows_do():
    circuit = CircuitBreaker()
    for at in range(1000):
        circuit.failed(float(at), "http-500")
        if circuit.suspected:
            circuit.probed(float(at), alive=True)
        assert not circuit.given_up(float(at))


def test_a_server_that_once_answered_is_given_up_after_the_outage_allowed():
    circuit = CircuitBreaker(max_outage_s=30.0)
    circuit.answered()
    circuit.failed(100.0, "refused", unreachable=True)
    assert not circuit.given_up(200.0)  # no probe has confirmed it yet
    circuit.probed(100.0, alive=False, reason="refused again")
    assert not circuit.given_up(129.9)
    assert circuit.given_up(130.0)
    assert circuit.reason == "refused again"


def test_a_server_that_never_answered_is_given_up_sooner():
    circuit = CircuitBreaker(max_outage_s=30.0, max_unanswered_s=5.0)
    circuit.failed(0.0, "refused", unreachable=True)
    circuit.probed(0.0, alive=False)
    assert not circuit.given_up(4.9)
    assert circuit.given_up(5.0)


def test_probes_come_at_growing_distances_up_to_five_seconds():
    circuit = CircuitBreaker()
    circuit.failed(0.0, "refused", unreachable=True)
    waits = []
    for _ in range(7):
        circuit.probed(0.0, alive=False)
        waits.append(circuit.next_probe)
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_a_probe_that_is_answered_ends_the_suspicion():
    circuit = CircuitBreaker()
    circuit.failed(0.0, "refused", unreachable=True)
    circuit.probed(1.0, alive=True)
    assert not circuit.suspected
    assert circuit.outage(2.0) == 0.0


def test_nothing_but_429_for_too_long_is_exhausted():
    circuit = CircuitBreaker(max_throttle_s=100.0)
    for at in range(0, 100, 10):
        circuit.throttled(float(at), 10.0)
    assert not circuit.exhausted(99.0)
    assert circuit.exhausted(100.0)


def test_one_success_between_429s_starts_the_patience_anew():
    circuit = CircuitBreaker(max_throttle_s=100.0)
    circuit.throttled(0.0, 10.0)
    circuit.answered()
    circuit.throttled(50.0, 10.0)
    assert not circuit.exhausted(149.0)


def test_two_429s_with_an_idle_hour_between_are_no_streak():
    circuit = CircuitBreaker(max_throttle_s=100.0)
    circuit.throttled(0.0, 10.0)
    circuit.throttled(3600.0, 10.0)
    assert not circuit.exhausted(3600.0)


def test_a_server_is_hopeless_after_a_hundred_lost_calls_that_took_as_long_as_an_outage():
    circuit = CircuitBreaker(max_outage_s=30.0)
    for _ in range(99):
        circuit.lost(0.0)
    assert not circuit.hopeless(1000.0)
    circuit.lost(10.0)
    assert not circuit.hopeless(29.0)
    assert circuit.hopeless(30.0)


def test_one_answer_among_lost_calls_and_a_server_is_not_hopeless():
    circuit = CircuitBreaker(max_outage_s=30.0)
    for second in range(150):
        circuit.lost(float(second))
    assert circuit.hopeless(150.0)
    circuit.probed(150.0, alive=True)  # /models alone proves nothing
    assert circuit.hopeless(150.0)
    circuit.answered()
    assert not circuit.hopeless(1000.0)
