from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harbor.runner.backoff import FIRST_DELAY, LONGEST_DELAY, STABLE, Backoff


def test_each_death_doubles_the_pause_up_to_a_bound() -> None:
    backoff = Backoff()
    assert [backoff.died(0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_stable_life_begins_the_count_anew() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.died(STABLE - 0.1)
    assert backoff.died(STABLE) == FIRST_DELAY


def test_after_the_limit_it_is_given_up() -> None:
    backoff = Backoff(limit=3)
    assert [backoff.died(0), backoff.died(0), backoff.died(0)] == [0.5, 1, None]


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=3000))
def test_it_never_spins_and_never_waits_too_long(lives: list[float]) -> None:
    backoff = Backoff()
    for ready_for in lives:
        delay = backoff.died(ready_for)
        assert delay is not None
        assert FIRST_DELAY <= delay <= LONGEST_DELAY


def test_a_year_of_deaths_overflows_nothing() -> None:
    assert Backoff(deaths=10**9).died(0) == LONGEST_DELAY
