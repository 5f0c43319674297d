"""The life of a backend, as a table."""

# Theory. A backend is one app instance. It registers and is *starting* until it has an address to dial:
# at once for a numeric host, after the first answer of DNS for a name. If the service has a health check, it is
# starting until it has passed one. Then it is *up* and takes new sessions. When it cannot be dialled, or
# ICMP says that nobody listens there, or checks fail, it is *down*: it is not given new sessions while another
# is up. Without a check it counts as up again after fail_timeout, because only a real session tells whether it
# recovered; with one it has to pass (`harbor.policy.health` counts). *draining* means no new sessions while
# old ones may finish; an operator asks for it, or deregistration with `removal: drain` does. *gone* is the end:
# the backend is forgotten, and whoever registers under its id begins anew.
#
#   starting ──RESOLVED, CHECK_PASSED──> up ──FAILED, CHECK_FAILED──> down ──RETRY_DUE, CHECK_PASSED──> up
#   starting ──CHECK_FAILED──> down
#   starting, up, down ──DRAIN──> draining
#             up, down ──DEREGISTERED──> draining ──IDLE, DRAIN_OVER──> gone
#             starting ──DEREGISTERED──> gone, as it never had a session
#
# Rule 1: every transition is in the table; a pair that is missing is the caller's error.
# Rule 2: REMOVED (`removal: cut` and `keep`) ends every life at once.
# Rule 3: the table tells one life. A changed instance under an old id begins another, at starting.
# Rule 4: news about sessions comes late. Whoever hears of a failure asks first whether the backend is up.

from __future__ import annotations

from enum import StrEnum
from typing import Final

from harbor.model import State


class Event(StrEnum):
    """What can happen to a backend."""

    RESOLVED = "resolved"  # there is an address to dial, and nothing to check
    CHECK_PASSED = "check_passed"  # enough health checks passed
    CHECK_FAILED = "check_failed"  # enough health checks failed
    FAILED = "failed"  # dials failed, or ICMP refused datagrams, as often as max_fails says
    RETRY_DUE = "retry_due"  # nothing is checked, and it has been down for fail_timeout
    DRAIN = "drain"  # an operator wants it to finish
    DEREGISTERED = "deregistered"  # it left, or its lease ran out: removal is drain
    REMOVED = "removed"  # the same, where removal is cut or keep
    IDLE = "idle"  # the last session of a draining backend ended
    DRAIN_OVER = "drain_over"  # drain_timeout ran out


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.STARTING: {
        Event.RESOLVED: State.UP,
        Event.CHECK_PASSED: State.UP,
        Event.CHECK_FAILED: State.DOWN,
        Event.DRAIN: State.DRAINING,
        Event.DEREGISTERED: State.GONE,
        Event.REMOVED: State.GONE,
    },
    State.UP: {
        Event.FAILED: State.DOWN,
        Event.CHECK_FAILED: State.DOWN,
        Event.DRAIN: State.DRAINING,
        Event.DEREGISTERED: State.DRAINING,
        Event.REMOVED: State.GONE,
    },
    State.DOWN: {
        Event.RETRY_DUE: State.UP,
        Event.CHECK_PASSED: State.UP,
        Event.DRAIN: State.DRAINING,
        Event.DEREGISTERED: State.DRAINING,
        Event.REMOVED: State.GONE,
    },
    State.DRAINING: {
        Event.IDLE: State.GONE,
        Event.DRAIN_OVER: State.GONE,
        Event.REMOVED: State.GONE,
    },
    State.GONE: {},
}


def after(state: State, event: Event) -> State:
    """The state that follows; ``ValueError`` where the table has none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise ValueError(f"{event.value} cannot happen to a backend that is {state.value}") from None
