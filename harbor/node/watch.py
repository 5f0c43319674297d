"""What the node notices about itself, once a second: how late its event loop is, and whether its ports wait.

Lateness is what a request to the API, or news of a session, may have to wait for its turn: when a timer should have
been called, and when it was. It costs one call a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

import structlog

from harbor.dataplane.plane import DataPlane
from harbor.node.feed import EventFeed
from harbor.node.journal import Journal
from harbor.node.parts import NODE
from harbor.policy.restraint import Restraint

log = structlog.get_logger("harbor.node")

EVERY: Final = 1.0  # seconds between looks
REMEMBERED: Final = 60  # looks: a minute
LATE: Final = 0.1  # seconds; what the API promises for its slowest answer in a hundred is gone by then


class Watch:
    """``lag`` is how late the latest look was, ``largest`` the largest of the last minute; both in seconds.

    Closing: ``close`` looks no more.
    """

    def __init__(self, plane: DataPlane, feed: EventFeed, journal: Journal) -> None:
        self.lag = 0.0
        self._plane = plane
        self._feed = feed
        self._journal = journal
        self._lags: deque[float] = deque([0.0], maxlen=REMEMBERED)
        self._restraint: Restraint[str] = Restraint()
        self._is_full = False  # and that has been told
        self._pauses = 0  # of the plane, at the latest look
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def largest(self) -> float:
        """The largest lag of the last minute."""
        return max(self._lags)

    def start(self) -> None:
        """Look from now on."""
        self._due = time.monotonic() + EVERY
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def warnings(self) -> tuple[str, ...]:
        """That the loop was late, if it was."""
        if self.largest < LATE:
            return ()
        return (f"the event loop was {self.largest:.2f} s late within the last minute; up to {LATE:g} s is well",)

    def figures(self) -> dict[str, float]:
        """What is measured, by the name of its metric."""
        return {
            "harbor_event_loop_lag_seconds": self.largest,
            "harbor_ports_waiting": self._plane.paused,
            "harbor_session_descriptors_used": self._plane.descriptors.used,
            "harbor_session_descriptors_limit": self._plane.descriptors.limit,
        }

    def full(self) -> str | None:
        """Why ports take nobody now; None if all do."""
        plane = self._plane
        if not plane.paused:
            return None
        used, limit = plane.descriptors.used, plane.descriptors.limit
        return (
            f"{plane.paused} port(s) wait for descriptors: RLIMIT_NOFILE is used up "
            f"(sessions have {used} of the {limit} that they may); raise LimitNOFILE, or end some sessions"
        )

    def _look(self) -> None:
        now = time.monotonic()
        self.lag = max(0.0, now - self._due)
        self._lags.append(self.lag)
        if self.lag >= LATE:
            self._tell_late(now)
        self._tell_full(now)
        self.start()

    def _tell_late(self, now: float) -> None:
        held_back = self._restraint.ask("late", now)
        if held_back is not None:
            log.warning("node.late", lag=round(self.lag, 3), held_back=held_back)

    def _tell_full(self, now: float) -> None:
        plane = self._plane
        paused_since, self._pauses = plane.pauses != self._pauses, plane.pauses
        if self._is_full:
            if not plane.paused and not paused_since:
                self._is_full = False
                self._note("node.has_room", "all ports take sessions again")
        elif paused_since or plane.paused:
            held_back = self._restraint.ask("full", now)
            if held_back is not None:
                self._is_full = True
                more = f" ({held_back} times before this one were not told)" if held_back else ""
                self._note("node.full", (self.full() or "ports had to wait for descriptors for a moment") + more)

    def _note(self, kind: str, message: str) -> None:
        self._journal.note(self._feed.draft(kind, NODE, message))
