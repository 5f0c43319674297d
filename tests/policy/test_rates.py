"""Token buckets: what passes in any window, and what a table of sources remembers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harbor.policy.rates import Buckets

ROUNDING = 1e-6
RATES = st.floats(0.01, 1000)
BURSTS = st.integers(1, 50)
STEPS = st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5)), max_size=60)


@given(RATES, BURSTS, STEPS)
def test_no_window_lets_more_pass_than_the_burst_and_the_rate(
    rate: float, burst: int, steps: list[tuple[float, int]]
) -> None:
    buckets, now = Buckets(rate, burst), 1000.0
    passed: list[tuple[float, int]] = []
    for pause, count in steps:
        now += pause
        if buckets.take("a", now, count):
            passed.append((now, count))
    for number, (begin, _) in enumerate(passed):
        total = 0
        for at, count in passed[number:]:
            total += count
            assert total <= burst + rate * (at - begin) + ROUNDING


@given(RATES, BURSTS, STEPS)
def test_what_is_refused_takes_nothing_and_who_waits_long_enough_passes(
    rate: float, burst: int, steps: list[tuple[float, int]]
) -> None:
    buckets, now = Buckets(rate, burst), 1000.0
    for pause, count in steps:
        now += pause
        buckets.take("a", now, count)
    buckets.take("a", now, burst + 1)
    now += burst / rate + ROUNDING
    assert buckets.take("a", now, burst)


def test_a_burst_passes_at_once_and_then_one_by_one() -> None:
    buckets = Buckets(2, 3)
    assert [buckets.take("a", 10.0) for _ in range(4)] == [True, True, True, False]
    assert [buckets.take("a", 10.0 + half / 2) for half in (0.5, 1, 1.5, 2)] == [False, True, False, True]


def test_sources_do_not_share() -> None:
    buckets = Buckets(1, 1)
    assert buckets.take("a", 5.0)
    assert buckets.take("b", 5.0)
    assert not buckets.take("a", 5.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 9)), max_size=100))
def test_J10_a_table_is_bounded_and_forgets_whose_bucket_is_full(steps: list[tuple[float, int]]) -> None:
    bounded, unbounded, now = Buckets(1, 2, most=1000), {}, 1000.0
    for pause, source in steps:
        now += pause
        mine = unbounded.setdefault(source, Buckets(1, 2))  # which has nobody to forget
        assert bounded.take(source, now) is mine.take(source, now)
    for _ in range(len(bounded)):
        bounded.take("late", now + 100)
    assert len(bounded) <= 1


def test_J10_with_more_sources_than_it_may_remember_who_was_silent_longest_is_forgotten() -> None:
    buckets = Buckets(0.001, 1, most=3)
    assert all(buckets.take(source, 1.0) for source in "abc")
    assert not buckets.take("a", 2.0)
    assert buckets.take("d", 3.0)
    assert len(buckets) == 3
    assert not buckets.take("a", 4.0)
    assert buckets.take("b", 5.0)  # which has a full bucket again


def test_J10_a_hundred_thousand_sources_leave_a_table_of_a_bounded_size() -> None:
    buckets = Buckets(0.001, 1, most=500)
    for number in range(100_000):
        assert buckets.take(number, 1.0)
    assert len(buckets) == 500
