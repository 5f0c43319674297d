"""When which backend is checked.

Every backend has its own rhythm, and every check runs apart from the others: one that hangs holds up nobody but
itself. Two bounds keep a thousand of them from being a load. No more than ``AT_ONCE`` run at a time, of which those
of backends that were slow the last time get half: however many hang, the others are asked in time. And
no more than ``STARTS`` begin in one turn of the event loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog

from harbor.errors import HarborError
from harbor.health.checks import CheckFailed, CheckSkipped, Open, look
from harbor.model import Address
from harbor.model.health import HealthCheck
from harbor.policy.deadlines import Deadlines
from harbor.policy.restraint import Restraint

log = structlog.get_logger("harbor.health")

AT_ONCE: Final = 512  # checks under way
SLOW: Final = 0.25  # seconds; a check that took longer is slow
STARTS: Final = 16  # checks begun in one turn, which takes about as many tenths of a millisecond
TURN: Final = 0.002  # seconds between turns while checks are due
JITTER: Final = 0.1  # of the interval, either way: what began together does not stay together
FIRST: Final = (0.5, 1.0)  # of the interval, until the second check


class Descriptors(Protocol):
    """What the process may open."""

    def take(self, count: int) -> bool:
        """Count so many as used, if there is room."""

    def give(self, count: int) -> None:
        """Count so many as free again."""


@dataclass(slots=True, eq=False)
class Subject:
    """A backend that is checked. ``address`` is the one to ask."""

    service_id: str
    backend_id: str
    check: HealthCheck
    address: Address
    is_own_port: bool  # and not one that answers for its health only
    task: asyncio.Task[None] | None = None  # while it is asked
    was_slow: bool = False
    is_new: bool = True
    is_over: bool = False


class Prober:
    """Checks backends and reports what came of it: ``report(service, backend, failure)``, None for a passed check.

    ``header_of`` says, by service, with what backends want TCP to begin at their own ports. ``admit`` raises if an
    address may not be dialled, which is a failed check. Closing: ``close`` ends the checks under way.
    """

    def __init__(
        self,
        open_socket: Open,
        admit: Callable[[Address], None],
        report: Callable[[str, str, str | None], None],
        descriptors: Descriptors,
        header_of: Callable[[str], bytes] = lambda service_id: b"",
    ) -> None:
        self.passed = 0  # checks since the node started
        self.failed = 0
        self._open = open_socket
        self._admit = admit
        self._report = report
        self._descriptors = descriptors
        self._header_of = header_of
        self._skipped: Restraint[None] = Restraint()  # the trouble is this machine's, whoever was to be asked
        self._subjects: dict[tuple[str, str], Subject] = {}
        self._due: Deadlines[Subject] = Deadlines()
        self._prompt: deque[Subject] = deque()  # whose turn it is, the longest waiting first
        self._slow: deque[Subject] = deque()  # the same, of those that were slow
        self._running: set[asyncio.Task[None]] = set()
        self._running_slow = 0
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, service_id: str, backend_id: str, check: HealthCheck, backend: Address) -> None:
        """Check a backend from now on, and at once; what was followed under this id is no more."""
        self.forget(service_id, backend_id)
        address = Address(backend.host, check.port or backend.port)
        subject = Subject(service_id, backend_id, check, address, check.port in (None, backend.port))
        self._subjects[service_id, backend_id] = subject
        self._due.set(subject, time.monotonic())
        self._arm()

    def forget(self, service_id: str, backend_id: str) -> None:
        """Check it no more; a check that is under way ends unheard."""
        subject = self._subjects.pop((service_id, backend_id), None)
        if subject is not None:
            subject.is_over = True
            self._due.set(subject, None)
            if subject.task is not None:
                subject.task.cancel()

    def forget_service(self, service_id: str) -> None:
        """Check none of its backends any more."""
        for key in [key for key in self._subjects if key[0] == service_id]:
            self.forget(*key)

    async def close(self) -> None:
        """End all checks."""
        for key in list(self._subjects):
            self.forget(*key)
        self._prompt.clear()
        self._slow.clear()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def __repr__(self) -> str:
        waiting = len(self._prompt) + len(self._slow)
        return f"<Prober {len(self._subjects)} backends, {len(self._running)} being asked, {waiting} waiting>"

    def _arm(self) -> None:
        """Wake up when something is due next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._due.next()
        if self._can_start():
            delay = TURN
        elif due is not None:
            delay = max(0.0, due - time.monotonic())
        else:
            return
        self._timer = asyncio.get_running_loop().call_later(delay, self._turn)

    def _turn(self) -> None:
        self._timer = None
        for subject in self._due.due(time.monotonic()):
            (self._slow if subject.was_slow else self._prompt).append(subject)
        started = 0
        while started < STARTS and self._can_start():
            subject = (self._prompt or self._slow).popleft()
            if not subject.is_over:
                self._start(subject)
                started += 1
        self._arm()

    def _can_start(self) -> bool:
        if len(self._running) >= AT_ONCE:
            return False
        return bool(self._prompt) or (bool(self._slow) and self._running_slow < AT_ONCE // 2)

    def _start(self, subject: Subject) -> None:
        if not self._descriptors.take(1):  # the node is full: sessions will find out what checks do not
            self._plan(subject, time.monotonic())
            return
        task = asyncio.get_running_loop().create_task(self._run(subject), name="check")
        task.add_done_callback(partial(self._ended, subject, subject.was_slow))
        subject.task = task
        self._running.add(task)
        self._running_slow += subject.was_slow

    def _ended(self, subject: Subject, was_slow: bool, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._running_slow -= was_slow
        self._descriptors.give(1)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("check.broken", service=subject.service_id, backend=subject.backend_id, exc_info=error)
            self._plan(subject, time.monotonic())
        self._arm()

    async def _run(self, subject: Subject) -> None:
        began = time.monotonic()
        failure: str | None = None
        try:
            self._admit(subject.address)
            header = self._header_of(subject.service_id) if subject.is_own_port else b""
            await look(subject.check, subject.address, self._open, header)
        except CheckFailed as error:
            failure = str(error)
        except HarborError as error:
            failure = f"{subject.check.type.value} check: {error.message}"
        except CheckSkipped as error:
            self._tell_skipped(subject, str(error))
            self._plan(subject, began)
            return
        subject.was_slow = time.monotonic() - began > SLOW
        self._plan(subject, began)
        self._tell(subject, failure)

    def _tell_skipped(self, subject: Subject, why: str) -> None:
        held_back = self._skipped.ask(None, time.monotonic())
        if held_back is not None:
            more = {"held_back": held_back} if held_back else {}
            log.warning("check.skipped", service=subject.service_id, backend=subject.backend_id, detail=why, **more)

    def _plan(self, subject: Subject, began: float) -> None:
        """Ask again in time, measured from when it was asked last."""
        subject.task = None
        if subject.is_over:
            return
        low, high = FIRST if subject.is_new else (1 - JITTER, 1 + JITTER)
        subject.is_new = False
        again = began + subject.check.interval * random.uniform(low, high)
        self._due.set(subject, max(again, time.monotonic() + TURN))
        self._arm()

    def _tell(self, subject: Subject, failure: str | None) -> None:
        if failure is None:
            self.passed += 1
        else:
            self.failed += 1
        self._report(subject.service_id, subject.backend_id, failure)
