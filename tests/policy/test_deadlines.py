"""Deadlines against a plain dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harbor.policy.deadlines import Deadlines

steps = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 50)), max_size=60)


@given(steps, st.integers(0, 60))
def test_what_is_due_comes_soonest_first(moves: list[tuple[int, int | None]], now: int) -> None:
    deadlines: Deadlines[int] = Deadlines()
    wanted: dict[int, int] = {}
    for key, when in moves:
        deadlines.set(key, when)
        wanted.pop(key, None)
        if when is not None:
            wanted[key] = when
        assert deadlines.next() == min(wanted.values(), default=None)
    due = deadlines.due(now)
    assert set(due) == {key for key, when in wanted.items() if when <= now}
    assert [wanted[key] for key in due] == sorted(wanted[key] for key in due)
    assert deadlines.next() == min((when for when in wanted.values() if when > now), default=None)


def test_deadlines_that_move_on_leave_no_pile_behind() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for beat in range(10_000):
        deadlines.set(beat % 10, float(beat))
        assert len(deadlines._heap) <= 100
    assert deadlines.due(9_994.0) == [0, 1, 2, 3, 4]
    assert deadlines.next() == 9_995.0
