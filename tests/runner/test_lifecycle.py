from __future__ import annotations

from itertools import product

import pytest

from harbor.runner.lifecycle import TRANSITIONS, UNEXPECTED, Event, State, after


def test_an_orderly_life() -> None:
    state = State.STARTING
    for event in (Event.ANSWERS, Event.CHECKS_FAIL, Event.ANSWERS, Event.RETIRE, Event.DRAINED, Event.EXITED):
        state = after(state, event)
    assert state is State.OVER


def test_every_life_can_end_at_any_time() -> None:
    for state in set(State) - {State.OVER}:
        assert after(state, Event.EXITED) is State.OVER
        assert after(state, Event.HURRY) is State.KILLED


def test_what_was_never_ready_has_no_session_to_wait_for() -> None:
    assert after(State.STARTING, Event.RETIRE) is State.STOPPING
    assert after(State.READY, Event.RETIRE) is State.RETIRING


def test_who_is_on_the_way_out_never_comes_back() -> None:
    leaving = {State.RETIRING, State.STOPPING, State.KILLED, State.OVER}
    assert {following for state in leaving for following in TRANSITIONS[state].values()} <= leaving
    assert leaving == set(State) - UNEXPECTED


def test_a_pair_that_is_not_in_the_table_is_an_error() -> None:
    for state, event in product(State, Event):
        if event not in TRANSITIONS[state]:
            with pytest.raises(ValueError, match=f"{event.value} cannot happen to a process that is {state.value}"):
                after(state, event)
