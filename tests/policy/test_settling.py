"""When a change that is looked at again and again counts."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harbor.policy.settling import Settling


def test_a_change_counts_once_it_rests() -> None:
    settling = Settling()
    assert [settling.look("a", state) for state in (1, 1, 1, 2, 3, 3, 3, 2, 3)] == [
        False, True, False, False, False, True, False, False, False,
    ]  # fmt: skip


def test_at_once_means_now() -> None:
    settling = Settling()
    assert settling.look("a", 1, at_once=True)
    assert not settling.look("a", 1, at_once=True)
    settling.forget("a")
    assert settling.look("a", 1, at_once=True)


@given(st.lists(st.integers(0, 2), max_size=50))
def test_D13_a_storm_counts_at_most_once_for_each_rest(states: list[int]) -> None:
    settling = Settling()
    counted = [state for state in states if settling.look("a", state)]
    assert all(one != other for one, other in pairwise(counted))
    rests = sum(one == other for one, other in pairwise(states))
    assert len(counted) <= rests
    assert settling.look("b", 0) is False
