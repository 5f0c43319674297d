"""Ages at which sessions end: never above the limit, and apart from each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harbor.policy.age import SPREAD, age_limit


@given(st.floats(0.001, 1e8), st.integers(1, 1 << 53))
def test_no_session_becomes_older_than_the_limit_or_ends_much_younger(most: float, number: int) -> None:
    assert most * (1 - SPREAD) <= age_limit(most, number) <= most


@given(st.integers(0, 1 << 40), st.integers(2, 500))
def test_sessions_that_began_together_end_spread_over_the_whole_of_it(first: int, count: int) -> None:
    ends = sorted(age_limit(1000.0, first + number) for number in range(count))
    gaps = [after - before for before, after in zip([1000.0 * (1 - SPREAD), *ends], [*ends, 1000.0], strict=True)]
    assert max(gaps) < 3 * 1000.0 * SPREAD / count
