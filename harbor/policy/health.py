"""What failures and checks say of a backend: when it goes down, and when it is up again. Knows no clock."""

# Theory. Two sources speak of a backend. *Passive*: a dial failed, or ICMP refused a datagram; max_fails of these
# within fail_timeout take it down. *Active*: checks; `fall` failed ones in a row take it down. Either is enough,
# because what cannot be dialled is of no use however well it answers its check, and the other way round.
#
# Back up it comes by one of them only. Without checks time must do: after fail_timeout a session finds out. With
# checks it has to pass `rise` of them in a row, and a dial that fails in between begins the row anew.
#
# A backend that flaps, down more than twice within FLAP_WINDOW, has to pass twice as many checks as the time before,
# up to MOST_PATIENCE times `rise`. So one that cannot make up its mind does not pull sessions and datagrams
# back and forth with it.

from __future__ import annotations

from typing import Final

from harbor.model import Policy, State
from harbor.model.health import HealthCheck

FLAP_WINDOW: Final = 60.0  # seconds
CALM: Final = 2  # downs within the window that are no flapping: a restart may well take two
MOST_PATIENCE: Final = 8  # at 5 s and rise 2 a backend is out for 80 s, longer than the window


class Standing:
    """What is known of one life of a backend. ``now`` is monotonic."""

    __slots__ = ("_downs", "_fails", "_failures", "_passes", "_patience", "_proven")

    def __init__(self, proven: bool = True) -> None:
        """``proven`` is False for one that is only supposed to be up: its first check decides."""
        self._proven = proven
        self._passes = 0  # in a row
        self._fails = 0  # in a row
        self._failures: list[float] = []  # when dials failed, within fail_timeout
        self._downs: list[float] = []  # when it went down, within FLAP_WINDOW
        self._patience = 1

    def begin_anew(self) -> None:
        """It is checked in another way or elsewhere from now on, or not at all: rows of checks begin anew."""
        self._proven = True
        self._passes = self._fails = 0

    def dial_failed(self, policy: Policy, state: State, now: float) -> bool:
        """Whether this failure takes down a backend in ``state``."""
        self._passes = 0
        if state is not State.UP or not policy.max_fails:
            return False
        self._failures = [*(at for at in self._failures if at >= now - policy.fail_timeout), now]
        return len(self._failures) >= policy.max_fails

    def passed(self, check: HealthCheck, state: State) -> bool:
        """Whether this passed check brings up a backend in ``state``."""
        self._proven, self._fails = True, 0
        self._passes += 1
        return state is State.STARTING or (state is State.DOWN and self._passes >= check.rise * self._patience)

    def failed(self, check: HealthCheck, state: State, age: float) -> bool:
        """Whether this failed check takes down a backend that has been in ``state`` for ``age`` seconds."""
        self._passes = 0
        if state is State.STARTING and age < check.start_period:
            return False
        self._fails += 1
        return state is not State.DOWN and (self._fails >= check.fall or not self._proven)

    def went_down(self, now: float) -> None:
        """It is down: what it must pass depends on how often that has happened."""
        self._passes = self._fails = 0
        self._failures = []
        self._downs = [*(at for at in self._downs if at > now - FLAP_WINDOW), now]
        self._patience = min(MOST_PATIENCE, 2 ** max(0, len(self._downs) - CALM))
