"""Meters: over any time no more than the rate and one burst, and all of the rate for who always has something."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harbor.policy.meter import Meter

RATES = st.floats(1, 1e9)


@given(RATES, st.lists(st.tuples(st.floats(0, 10), st.integers(0, 1 << 20)), max_size=50))
def test_no_window_lets_more_pass_than_its_rate_and_a_burst(rate: float, asked: list[tuple[float, int]]) -> None:
    meter = Meter(rate, 0.0)
    now, passed = 0.0, []
    for pause, wanted in asked:
        now += pause
        took = min(wanted, meter.allowance(now))
        meter.charge(took)
        passed.append((now, took))
    for first in range(len(passed)):
        took = 0
        for at, count in passed[first:]:
            took += count
            assert took <= meter.burst + rate * (at - passed[first][0]) + 1 + 1e-6 * took


@given(RATES, st.integers(1, 1 << 20))
def test_who_always_has_something_gets_the_whole_rate(rate: float, read: int) -> None:
    meter = Meter(rate, 0.0)
    now, took = 0.0, 0
    for _ in range(200):
        allowed = min(read, meter.allowance(now))
        if allowed:
            meter.charge(allowed)
            took += allowed
        else:
            wait = meter.wait()
            assert wait > 0
            now += wait
    assert took >= 0.99 * rate * now - 200


def test_a_debt_is_paid_before_anything_passes() -> None:
    meter = Meter(10_000, 0.0)
    meter.charge(14_096)  # the burst, and a second's worth
    assert meter.allowance(0.0) == 0
    assert meter.allowance(0.99) == 0
    assert 0 < meter.allowance(1.1) <= 1_000
    assert Meter(10_000, 0.0).allowance(0.0) == meter.burst == 4096


def test_the_rate_may_change() -> None:
    meter = Meter(1_000_000, 0.0)
    meter.charge(meter.allowance(0.0))
    meter.rate = 10.0
    assert meter.allowance(1.0) == 10
