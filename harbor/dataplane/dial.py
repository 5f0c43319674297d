"""The search for a backend that takes a TCP session.

A backend is dialled before the client has said anything, so protocols in which the server speaks first work. A dial
that fails goes on to the other backends, each once, all within one ``connect_timeout``; the client
notices nothing but the wait.
"""

from __future__ import annotations

import errno
import os
import time
from _socket import socket as Socket  # noqa: N812 - as in tcp.py
from socket import (
    IPPROTO_IP,
    IPPROTO_TCP,
    SO_ERROR,
    SO_LINGER,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    TCP_QUICKACK,
)
from typing import TYPE_CHECKING, Final

from harbor.dataplane.backend_tls import BackendDoor, BackendHandshake
from harbor.dataplane.proxy_protocol import announcement
from harbor.dataplane.reactor import FAILED, HUNG_UP, PEER_ENDED, READ_EDGES, STREAM_EDGES, WRITE, Watcher
from harbor.dataplane.sockets import IP_LOCAL_PORT_RANGE, RESET_ON_CLOSE, family_of
from harbor.dataplane.tls import TlsEnd
from harbor.model import Reason
from harbor.policy.rotation import Slot

if TYPE_CHECKING:
    from harbor.dataplane.session import TcpSession

CLIENT_LEFT_GRACE: Final = 1.0  # seconds left to a dial whose client has already sent its end and nothing else
# A value of TCP_QUICKACK that sends the acknowledgement that is due and leaves the option off (tcp_sock_set_quickack).
ACKNOWLEDGE_NOW: Final = 2

# Errors of connect() that say something about the backend. All others are this machine's own trouble.
BACKENDS_FAULT: Final = {
    errno.ECONNREFUSED: Reason.CONNECT_REFUSED,
    errno.ECONNRESET: Reason.CONNECT_REFUSED,
    errno.ETIMEDOUT: Reason.CONNECT_TIMEOUT,
    errno.EHOSTUNREACH: Reason.CONNECT_FAILED,
    errno.ENETUNREACH: Reason.CONNECT_FAILED,
    errno.EHOSTDOWN: Reason.CONNECT_FAILED,
}


class Waiting(Watcher):
    """A client that has been waiting for its backend for a while: it may leave. Most need not be watched so early."""

    __slots__ = ("_dial",)

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    def on_news(self, events: int) -> None:
        """The client speaks, ends or leaves."""
        self._dial.on_client_news(events)


class Dial(Watcher):
    """The search for a backend that takes a session: one attempt after another within ``connect_timeout``.

    It watches the attempt under way, and after a moment the client as well. Where backends speak TLS, an attempt has
    succeeded when they have shaken hands (``shaking``).
    """

    __slots__ = (
        "attempt",
        "client_left",
        "client_watched",
        "deadline",
        "due",
        "may_wait",
        "outcome",
        "session",
        "shaking",
        "slot",
        "tried",
        "unsaid",
    )

    def __init__(self, session: TcpSession, client_watched: bool = False, may_wait: bool = True) -> None:
        self.session = session
        self.may_wait = may_wait  # for a backend that is full; once at most
        self.deadline = session.reactor.now + session.listener.policy.connect_timeout
        self.due = self.deadline  # of the attempt under way
        self.tried: list[Slot] = []
        self.slot: Slot | None = None
        self.attempt: Socket | None = None
        self.shaking: BackendHandshake | None = None
        self.unsaid: bytes | None = None  # what the backend has not taken yet of who the client is
        self.client_watched = client_watched
        self.client_left = False  # it said nothing and sent its end
        self.outcome: Reason | None = None

    def advance(self) -> None:
        """Dial backends in turn until an attempt is under way; end the session when nobody is left."""
        session = self.session
        listener = session.listener
        while session.dial is self:  # whoever is told of a failure may end the session
            now = time.monotonic()
            left = self.deadline - now
            if left <= 0:
                session.unreachable(self.outcome or Reason.CONNECT_TIMEOUT)
                return
            limit = listener.policy.max_sessions_per_backend
            slot = listener.rotation.pick(limit, self.tried, now, session.client_address[0])
            if slot is None:
                if not (self.may_wait and listener.lets_wait(self)):
                    session.unreachable(self.outcome or listener.why_nobody())
                return
            untried = max(1, len(listener.rotation) - len(self.tried))
            self.due = self.deadline - left + left / untried
            self.tried.append(slot)
            if self._connect(slot):
                return

    def on_client_news(self, events: int) -> None:
        """The client speaks, ends or leaves while it waits."""
        if events & FAILED:
            self.session.end(Reason.CLIENT_RESET)
        elif events & (PEER_ENDED | HUNG_UP) and self.session.client_is_silent():
            # It may have left, or only have nothing to say and wait for a greeting.
            self.client_left = True
            self.deadline = self.due = min(self.due, time.monotonic() + CLIENT_LEFT_GRACE)

    def on_news(self, events: int) -> None:
        """The attempt has been answered, one way or the other."""
        attempt = self.attempt
        if attempt is None:
            return
        if events & (FAILED | HUNG_UP):
            self._failed(attempt.getsockopt(SOL_SOCKET, SO_ERROR) or errno.ECONNRESET)
        elif events & WRITE:
            if self._reached_itself(attempt):
                attempt.setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)  # no TIME_WAIT on the backend's own port
                self._failed(errno.ECONNREFUSED)
            elif self.session.listener.announces and not self._announce(attempt):
                return  # the backend has still to take the rest, or another one is dialled
            elif self.session.listener.backend_door is None:
                self._connected(attempt, events, None)
            else:
                self._shake_hands(attempt, self.session.listener.backend_door)

    def look(self, now: float) -> None:
        """It takes a while: see whether it is overdue, and from now on whether the client leaves."""
        if now >= self.due:
            self.timed_out()
        elif not self.client_watched:
            self.client_watched = True
            self.session.reactor.watch(self.session.client, Waiting(self), READ_EDGES)

    def timed_out(self) -> None:
        """The attempt has had its share of the time, or all that its client left to it."""
        if self.attempt is None:
            return
        if self.client_left:
            self.session.end(Reason.CLIENT_RESET)
        elif self.shaking is not None:
            self.refused("it did not shake hands in time")
        else:
            self._failed(errno.ETIMEDOUT)

    def shaken(self, handshake: BackendHandshake) -> None:
        """The backend has shaken hands, and is who it should be."""
        self.shaking = None
        self._connected(handshake.sock, 0, handshake.end)

    def refused(self, why: str) -> None:
        """The backend's TLS is not what it should be: go on to the next."""
        slot = self.slot
        assert slot is not None
        self._drop_attempt()
        self.outcome = Reason.BACKEND_TLS_FAILED
        self._report(slot, f"TLS with {slot.address}: {why}")
        self.advance()

    def turn_away(self) -> None:
        """The backend of the attempt under way is not wanted any more: go on to the next."""
        self._drop_attempt()
        self.advance()

    def cancel(self) -> None:
        """The session ends: stop dialling."""
        self.session.dial = None
        if self.attempt is not None:
            self._drop_attempt()

    def _connect(self, slot: Slot) -> bool:
        listener = self.session.listener
        address = slot.address
        try:
            attempt = Socket(family_of(address.host), SOCK_STREAM | SOCK_NONBLOCK, 0)
        except OSError:  # no descriptor, no memory: not the backend's fault
            self.outcome = Reason.LIMIT_NODE
            return False
        attempt.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        attempt.setsockopt(IPPROTO_TCP, TCP_QUICKACK, 0)
        if listener.plane.source_ports is not None:
            attempt.setsockopt(IPPROTO_IP, IP_LOCAL_PORT_RANGE, listener.plane.source_ports)
        self.attempt, self.slot = attempt, slot
        slot.active += 1
        code = attempt.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self._drop_attempt()
            self._blame(slot, code)
            return False
        listener.plane.watch_dial(self)
        listener.reactor.watch(attempt.fileno(), self, STREAM_EDGES)
        return True

    def _shake_hands(self, attempt: Socket, door: BackendDoor) -> None:
        slot = self.slot
        assert slot is not None
        sock = self.attempt = door.socket_of(attempt, family_of(slot.address.host))
        try:
            shaking = self.shaking = BackendHandshake(self, sock, door.begin(sock, slot))
        except OSError:  # OpenSSL has no memory for it: not the backend's fault
            self._drop_attempt()
            self.outcome = Reason.LIMIT_NODE
            self.advance()
            return
        self.session.reactor.hand_over(sock.fileno(), shaking)
        shaking.on_news(WRITE)

    def _announce(self, attempt: Socket) -> bool:
        """Tell the backend who the client is; False while it has not taken it all, or if it does not."""
        unsaid, takes_its_time = self.unsaid, True
        if unsaid is None:
            unsaid, takes_its_time = announcement(self.session), False
        try:
            while unsaid:
                unsaid = unsaid[attempt.send(unsaid) :]
        except BlockingIOError:
            self.unsaid = unsaid
            return False
        except OSError as error:
            self._failed(error.errno or errno.ECONNRESET)
            return False
        if takes_its_time:  # what the backend did meanwhile is news once more
            self.session.reactor.renew(attempt.fileno(), STREAM_EDGES)
        return True

    def _connected(self, attempt: Socket, events: int, tls: TlsEnd | None) -> None:
        session, slot = self.session, self.slot
        assert slot is not None
        session.listener.plane.dialling.pop(self, None)
        self.attempt = None
        session.connected(attempt, slot, tls)
        inbound = session.inbound
        assert inbound is not None
        if self.client_watched:  # what it said while there was nowhere to send it is news once more
            session.reactor.hand_over(session.client, inbound)
            session.reactor.renew(session.client, READ_EDGES)
        else:
            session.reactor.watch(session.client, inbound, READ_EDGES)
        inbound.pump()
        if tls is not None:
            if session.outbound is not None:
                session.outbound.pump_later()  # its first words may have come with the handshake
            return
        if not inbound.moved and session.inbound is not None:
            # Nothing will carry the handshake's last acknowledgement soon, and who speaks first waits for it.
            attempt.setsockopt(IPPROTO_TCP, TCP_QUICKACK, ACKNOWLEDGE_NOW)
        greeting = events & ~WRITE  # it will not come again
        if greeting and session.outbound is not None:
            session.outbound.on_news(greeting)

    def _failed(self, code: int) -> None:
        slot = self.slot
        assert slot is not None
        self._drop_attempt()
        self._blame(slot, code)
        self.advance()

    def _blame(self, slot: Slot, code: int) -> None:
        self.outcome = BACKENDS_FAULT.get(code, Reason.CONNECT_FAILED)
        if code in BACKENDS_FAULT:
            self._report(slot, f"TCP connect to {slot.address}: {os.strerror(code)}")

    def _report(self, slot: Slot, detail: str) -> None:
        listener = self.session.listener
        listener.plane.observer.backend_failed(listener.service_id, slot.backend_id, slot.address, detail)

    def _drop_attempt(self) -> None:
        attempt, slot = self.attempt, self.slot
        assert attempt is not None
        assert slot is not None
        slot.active -= 1
        self.attempt = self.slot = self.shaking = self.unsaid = None
        self.session.listener.plane.dialling.pop(self, None)
        self.session.reactor.discard(attempt.detach())

    def _reached_itself(self, attempt: Socket) -> bool:
        """Whether the kernel took the port of a backend that does not listen as the source port, so both ends are one.

        It can where the backend's port is among the source ports (RFC 9293 §3.5, simultaneous open). The session would
        echo its client's bytes, and would keep the backend from binding its port again.
        """
        slot = self.slot
        return (
            slot is not None
            and slot.address.port in self.session.listener.plane.source_port_range
            and attempt.getsockname()[:2] == slot.address
        )
