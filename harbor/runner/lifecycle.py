"""The life of one process of an instance, as a table."""

# Theory. ``harbor run`` keeps a number of instances; an instance is a place, and one process after another lives in
# it. Each life begins *starting*: the process runs, but is not known to answer. Once it listens, or its health check
# passes, it is *ready*: registered, its lease renewed. One whose checks fail is *unwell*: it has no new sessions until
# they pass again. A life is ended in order by *retiring* it, registered but draining, until its sessions are over;
# then it is *stopping*, which means SIGTERM, and at last, if it has not gone by itself, *killed*. *over* is the end,
# however it came.
#
#   starting ──ANSWERS──> ready ──CHECKS_FAIL──> unwell ──ANSWERS──> ready
#   ready, unwell ──RETIRE──> retiring ──DRAINED──> stopping ──TIME_IS_UP──> killed
#        starting ──RETIRE──────────────────────> stopping, as it never had a session
#   all but over ──EXITED──> over
#
# Rule 1: every transition is in the table; a pair that is missing is the caller's error.
# Rule 2: HURRY goes from everywhere straight to killed: somebody pressed Ctrl-C a second time.
# Rule 3: this module knows neither processes nor clocks. Who enters a state does what it asks for.

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a life stands."""

    STARTING = "starting"
    READY = "ready"
    UNWELL = "unwell"
    RETIRING = "retiring"
    STOPPING = "stopping"
    KILLED = "killed"
    OVER = "over"


class Event(StrEnum):
    """What can happen to it."""

    ANSWERS = "answers"  # it listens where it should, and its health check passes
    CHECKS_FAIL = "checks fail"  # so many in a row that it is no accident
    RETIRE = "retire"  # it is to end in order
    DRAINED = "drained"  # its sessions are over, or their time is
    TIME_IS_UP = "time is up"  # it did not end within --stop-timeout
    HURRY = "hurry"  # it is to end now
    EXITED = "exited"  # the process is gone


S, E = State, Event
TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    S.STARTING: {E.ANSWERS: S.READY, E.RETIRE: S.STOPPING, E.HURRY: S.KILLED, E.EXITED: S.OVER},
    S.READY: {E.CHECKS_FAIL: S.UNWELL, E.RETIRE: S.RETIRING, E.HURRY: S.KILLED, E.EXITED: S.OVER},
    S.UNWELL: {E.ANSWERS: S.READY, E.RETIRE: S.RETIRING, E.HURRY: S.KILLED, E.EXITED: S.OVER},
    S.RETIRING: {E.DRAINED: S.STOPPING, E.HURRY: S.KILLED, E.EXITED: S.OVER},
    S.STOPPING: {E.TIME_IS_UP: S.KILLED, E.HURRY: S.KILLED, E.EXITED: S.OVER},
    S.KILLED: {E.HURRY: S.KILLED, E.EXITED: S.OVER},
    S.OVER: {},
}

# Nobody asked for the end of a process that exits in one of these.
UNEXPECTED: Final = frozenset({S.STARTING, S.READY, S.UNWELL})


def after(state: State, event: Event) -> State:
    """The state that follows; ``ValueError`` where the table has none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise ValueError(f"{event.value} cannot happen to a process that is {state.value}") from None
