"""TCP: a listener accepts, a session is dialled at once, and two streams carry it.

    listener.on_news → Dial (rotation.pick, connect) → TcpSession with two Streams

A backend is dialled before the client has said anything, so protocols in which the server speaks first work. A dial
that fails goes on to the other backends, each once, within one ``connect_timeout``; the client
notices nothing but the wait.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from harbor.dataplane.budget import PER_TCP_SESSION
from harbor.dataplane.dial import Dial
from harbor.dataplane.reactor import READ, Reactor, Watcher
from harbor.dataplane.session import TcpSession
from harbor.dataplane.sockets import plain_address
from harbor.dataplane.tally import Tally
from harbor.dataplane.tls import Door, Handshake
from harbor.model import Policy, Reason
from harbor.policy.http import HttpRelay
from harbor.policy.rotation import Rotation

if TYPE_CHECKING:
    from harbor.dataplane.plane import DataPlane

ACCEPTS: Final = 64  # connections accepted at one go
RETRY_ACCEPT: Final = 0.1  # seconds to wait when the kernel has no descriptor or memory for another
GROWN_UP: Final = 10.0  # seconds after which a session gets the options that short ones do without
SWEEP: Final = 5.0  # seconds between looks at the sessions of a service

_set_blocking: Final = os.set_blocking


class TcpListener(Watcher):
    """The TCP half of a service: accepts, and owns the sessions that come of it.

    Closing: ``close()`` stops listening at once and leaves the sessions; the plane ends those.
    """

    def __init__(
        self,
        plane: DataPlane,
        service_id: str,
        sock: socket.socket,
        policy: Policy,
        door: Door | None = None,
        is_http: bool = False,
    ) -> None:
        self.plane = plane
        self.reactor: Reactor = plane.reactor
        self.door = door
        self.port: int = sock.getsockname()[1]
        self._says_http = is_http
        self.service_id = service_id
        self.policy = policy
        self.rotation = Rotation()
        self.tally = Tally()
        self.sessions: dict[int, TcpSession] = {}
        self._sock = sock
        self.family = sock.family
        self._accept: Callable[[], tuple[int, Any]] = sock._accept  # type: ignore[attr-defined]
        self._at_once = 1
        self._polls = -1  # the reactor's count of polls when clients waited last
        self._sweeping = False

    @property
    def is_http(self) -> bool:
        """Whether new sessions are read as HTTP."""
        return self._says_http if self.policy.http is None else self.policy.http

    def open(self) -> None:
        """Begin to accept."""
        self.reactor.watch(self._sock.fileno(), self, READ)

    def close(self) -> None:
        """Stop listening; clients in the backlog are reset by the kernel."""
        if self._sock.fileno() >= 0:
            self.reactor.discard(self._sock.detach())
            self.plane.handshakes.forget(self)

    def on_news(self, events: int) -> None:
        """Clients wait. A lone one costs a single accept; a crowd still there at the next poll is taken faster."""
        polls = self.reactor.polls
        self._at_once = min(2 * self._at_once, ACCEPTS) if polls == self._polls + 1 else 1
        self._polls = polls
        for _ in range(self._at_once):
            if not self.plane.take_for_session():
                self._pause()
                self.plane.descriptors.when_free(self._resume)
                return
            try:
                fd, address = self._accept()
            except BlockingIOError:
                self.plane.descriptors.give(PER_TCP_SESSION)
                return
            except OSError as error:
                self.plane.descriptors.give(PER_TCP_SESSION)
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause()
                    self.reactor.loop.call_later(RETRY_ACCEPT, self._resume)
                    return
                continue  # ECONNABORTED and kin: that client is gone already
            self.tally.opened += 1
            if self.door is None:
                _set_blocking(fd, False)
                self._admit(fd, address, None)
            else:
                self._greet(self.door, fd, address)

    def _greet(self, door: Door, client: int, address: Any) -> None:
        try:
            handshake = Handshake(self, door, client, address)
        except OSError:  # OpenSSL has no memory for it; the socket object has closed the descriptor
            self.lost(Reason.TLS_HANDSHAKE_FAILED, PER_TCP_SESSION)
            return
        self.plane.handshakes.begin(handshake)

    def shaken(self, handshake: Handshake) -> None:
        """A client has shaken hands: now it gets its session."""
        self._admit(handshake.sock.fileno(), handshake.address, handshake)

    def lost(self, reason: Reason, freed: int) -> None:
        """A client never came to have a session; so many of its descriptors are free now."""
        self.tally.closed[reason] += 1
        self.plane.descriptors.give(freed)

    def _admit(self, client: int, address: Any, handshake: Handshake | None) -> None:
        limit = self.policy.max_sessions
        if limit and len(self.sessions) >= limit:
            self.lost(Reason.LIMIT_SERVICE, PER_TCP_SESSION)
            self.reactor.discard(client if handshake is None else handshake.sock.detach())
            return
        session = TcpSession(self, client, address, self.plane.next_session_id())
        self.sessions[session.id] = session
        if not self._sweeping:
            self._sweep_later()
        dial = session.dial = Dial(session)
        if handshake is not None:
            session.take_over(handshake, dial)
        if self.is_http:
            scheme: Literal["https", "http"] = "http" if handshake is None else "https"
            hsts = f"max-age={self.policy.hsts}" if self.policy.hsts else None
            client_address = plain_address(address)
            session.http = HttpRelay(client=client_address, port=self.port, scheme=scheme, trusted=False, hsts=hsts)
        dial.advance()

    def ended(self, session: TcpSession, reason: Reason, freed: int) -> None:
        """Take a session off the books; so many of its descriptors are free now."""
        tally = self.tally
        del self.sessions[session.id]
        tally.closed[reason] += 1
        tally.bytes_in += session.bytes_in
        tally.bytes_out += session.bytes_out
        if session.slot is not None:
            session.slot.active -= 1
        self.plane.descriptors.give(freed)
        if self.plane.session_ended is not None:
            self.plane.session_ended(session.view(time.monotonic(), time.time()), reason)

    def _sweep_later(self) -> None:
        self._sweeping = True
        idle_timeout = self.policy.idle_timeout
        self.reactor.loop.call_later(min(SWEEP, idle_timeout / 4 or SWEEP), self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now = time.monotonic()
        idle_timeout = self.policy.idle_timeout
        for session in list(self.sessions.values()):
            if (
                idle_timeout
                or session.http is not None
                or (session.moved_before < 0 and now - session.started >= GROWN_UP)
            ):
                session.sweep(now, idle_timeout)
        if self.sessions:
            self._sweep_later()

    def why_nobody(self) -> Reason:
        """Why the rotation had nobody to offer."""
        return Reason.LIMIT_BACKEND if len(self.rotation) else Reason.NO_BACKEND

    def _pause(self) -> None:
        self.plane.paused += 1
        self.reactor.ignore(self._sock.fileno())

    def _resume(self) -> None:
        self.plane.paused -= 1
        if self._sock.fileno() >= 0:
            self.open()
