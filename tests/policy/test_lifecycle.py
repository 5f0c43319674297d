"""The table of a backend's life: complete, closed, and every life can end."""

from __future__ import annotations

from itertools import product

import pytest

from harbor.model import State
from harbor.policy.lifecycle import TRANSITIONS, Event, after


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_a_pair_is_in_the_table_or_refused(state: State, event: Event) -> None:
    if event in TRANSITIONS[state]:
        assert after(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(ValueError, match=f"^{event} cannot happen to a backend that is {state}$"):
            after(state, event)


def test_gone_is_final_and_can_be_reached_from_everywhere() -> None:
    assert TRANSITIONS[State.GONE] == {}
    for state in set(State) - {State.GONE}:
        assert after(state, Event.REMOVED) is State.GONE


def test_nothing_leads_out_of_draining_but_the_end() -> None:
    assert set(TRANSITIONS[State.DRAINING].values()) == {State.GONE}


def test_only_time_or_a_check_brings_a_failed_backend_back() -> None:
    assert after(State.UP, Event.FAILED) is after(State.UP, Event.CHECK_FAILED) is State.DOWN
    back = {event for event, state in TRANSITIONS[State.DOWN].items() if state is State.UP}
    assert back == {Event.RETRY_DUE, Event.CHECK_PASSED}
