"""Bandwidth: sessions that read no faster than they may, each by itself and all of a service together.

A stream asks before it reads. If nothing may pass it stands in line at the valve that said so, and is called when its
turn comes; meanwhile nothing of its source is read, so the kernel's windows slow the sender down. Whoever waits at the
valve of a service gets one read at a time, in turn.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from harbor.model import Policy
from harbor.model.bandwidth import Bandwidth
from harbor.policy.meter import Meter

if TYPE_CHECKING:
    from harbor.dataplane.reactor import Reactor
    from harbor.dataplane.stream import Stream

SOONEST: Final = 0.005  # seconds until a line is served again: timers of a busy loop are no finer


class Valve:
    """A meter, and the streams that wait for it."""

    __slots__ = ("_is_armed", "_line", "_meter", "_reactor", "_served")

    def __init__(self, reactor: Reactor, rate: int) -> None:
        self._reactor = reactor
        self._meter = Meter(rate, time.monotonic())
        self._line: deque[Stream] = deque()
        self._served: Stream | None = None
        self._is_armed = False

    def allowance(self, stream: Stream) -> int:
        """How many bytes this stream may read now. 0: it stands in line, and is pumped when its turn comes."""
        if self._served is not stream and (self._line or self._served is not None):
            self._line_up(stream)
            return 0
        allowed = self._meter.allowance(time.monotonic())
        if not allowed:
            self._line_up(stream)
        elif self._line:  # they all get as much as there is for each
            allowed = min(allowed, max(int(self._meter.worth), allowed // (len(self._line) + 1)))
        return allowed

    def charge(self, stream: Stream, count: int) -> None:
        """The stream has read so many bytes; if others wait that was its turn."""
        self._meter.charge(count)
        if self._served is stream:
            self._served = None

    def _line_up(self, stream: Stream) -> None:
        stream.queued = True
        self._line.append(stream)
        self._arm()

    def _arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._reactor.loop.call_later(max(SOONEST, self._meter.wait()), self._reactor.again, self._serve)

    def _serve(self) -> None:
        self._is_armed = False
        for _ in range(len(self._line)):
            if not self._meter.allowance(time.monotonic()):
                break
            stream = self._served = self._line.popleft()
            stream.pump_again()
            self._served = None
        if self._line:
            self._arm()


class Pacing:
    """The valves through which the two streams of a session read."""

    __slots__ = ("_down", "_up")

    def __init__(self, up: list[Valve], down: list[Valve]) -> None:
        self._up = up
        self._down = down

    def allowance(self, stream: Stream) -> int:
        """How many bytes this stream may read now. 0: it is pumped later."""
        if stream.queued:  # it stands in line already
            return 0
        allowed = 1 << 30
        for valve in self._of(stream):
            allowed = min(allowed, valve.allowance(stream))
            if not allowed:
                break
        return allowed

    def charge(self, stream: Stream, count: int) -> None:
        """The stream has read so many bytes."""
        for valve in self._of(stream):
            valve.charge(stream, count)

    def _of(self, stream: Stream) -> list[Valve]:
        return self._up if stream is stream.session.inbound else self._down


class Pacer:
    """The bandwidth of a service: its own valves, and how those of its sessions are made."""

    def __init__(self, reactor: Reactor, bandwidth: Bandwidth) -> None:
        self._reactor = reactor
        self._bandwidth = bandwidth
        self._up = self._valves(bandwidth.service_up)
        self._down = self._valves(bandwidth.service_down)

    def of_session(self) -> Pacing:
        """What paces one more session."""
        mine = self._bandwidth
        return Pacing([*self._valves(mine.session_up), *self._up], [*self._valves(mine.session_down), *self._down])

    def _valves(self, rate: int | None) -> list[Valve]:
        return [] if rate is None else [Valve(self._reactor, rate)]


class FlowPacing:
    """The meters of a UDP flow. Datagrams cannot wait: one for which there is no room is the caller's to drop."""

    __slots__ = ("_down", "_up")

    def __init__(self, up: list[Meter], down: list[Meter]) -> None:
        self._up = up
        self._down = down

    def admits_up(self, size: int, now: float) -> bool:
        """Whether a datagram of so many bytes may go to the backend; if so, it is charged."""
        return _admits(self._up, size, now)

    def admits_down(self, size: int, now: float) -> bool:
        """Whether a reply of so many bytes may go to the client; if so, it is charged."""
        return _admits(self._down, size, now)


class FlowPacer:
    """The bandwidth of a service with UDP. ``together``: what paces all its flows as one."""

    def __init__(self, bandwidth: Bandwidth) -> None:
        self._bandwidth = bandwidth
        self._up = _meters(bandwidth.service_up)
        self._down = _meters(bandwidth.service_down)
        self.together = FlowPacing(self._up, self._down)

    def of_flow(self) -> FlowPacing:
        """What paces one more flow."""
        mine = self._bandwidth
        return FlowPacing([*_meters(mine.session_up), *self._up], [*_meters(mine.session_down), *self._down])


def _meters(rate: int | None) -> list[Meter]:
    return [] if rate is None else [Meter(rate, time.monotonic())]


def _admits(meters: list[Meter], size: int, now: float) -> bool:
    for meter in meters:
        if not meter.allowance(now):
            return False
    for meter in meters:
        meter.charge(size)
    return True


def pacer_for(reactor: Reactor, policy: Policy) -> Pacer | None:
    """What paces the sessions of a service with this policy; None if nothing has to."""
    return None if policy.bandwidth is None else Pacer(reactor, policy.bandwidth)
