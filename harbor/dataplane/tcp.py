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
from _socket import socket as Socket  # noqa: N812 - without socket.socket's Python layer: 1 KiB and 4 µs less
from collections.abc import Callable
from socket import SHUT_WR, SO_ERROR, SO_LINGER, SOCK_STREAM, SOL_SOCKET
from typing import TYPE_CHECKING, Any, Final

from harbor.dataplane.budget import PER_LINGERING, PER_TCP_SESSION
from harbor.dataplane.dial import Dial, Waiting
from harbor.dataplane.linger import discard_until_end, reset_when_delivered
from harbor.dataplane.reactor import READ, Reactor, Watcher
from harbor.dataplane.sockets import RESET_ON_CLOSE, plain_address
from harbor.dataplane.stream import Stream
from harbor.dataplane.tally import Tally
from harbor.dataplane.tls import Door, Handshake, TlsEnd
from harbor.model import Policy, Protocol, Reason, SessionView
from harbor.model.tls import TlsTerms
from harbor.policy.rotation import Rotation, Slot

if TYPE_CHECKING:
    from harbor.dataplane.plane import DataPlane

ACCEPTS: Final = 64  # connections accepted at one go
RETRY_ACCEPT: Final = 0.1  # seconds to wait when the kernel has no descriptor or memory for another
GROWN_UP: Final = 10.0  # seconds after which a session gets the options that short ones do without
SWEEP: Final = 5.0  # seconds between looks at the sessions of a service

_set_blocking: Final = os.set_blocking


class TcpSession:
    """One client connection and the backend connection made for it. ``clear``: nothing stands in the relay's way.

    Of the client there is a descriptor, and a socket object only once something asks for what descriptors cannot do.
    """

    __slots__ = (
        "_client",
        "backend",
        "clear",
        "client",
        "client_address",
        "dial",
        "id",
        "inbound",
        "listener",
        "moved_at",
        "moved_before",
        "outbound",
        "reactor",
        "slot",
        "started",
        "tls",
    )

    def __init__(self, listener: TcpListener, client: int, client_address: Any, number: int) -> None:
        self.id = number
        self.listener = listener
        self.reactor = listener.reactor
        self.client = client
        self._client: Socket | None = None
        self.tls: TlsEnd | None = None  # what ends the client's TLS
        self.client_address = client_address
        self.started = listener.reactor.now
        self.backend: Socket | None = None
        self.slot: Slot | None = None
        self.dial: Dial | None = None
        self.inbound: Stream | None = None
        self.outbound: Stream | None = None
        self.clear = False
        self.moved_at = self.started
        self.moved_before = -1  # bytes both ways at the last sweep; -1: too young for one

    def take_over(self, handshake: Handshake, dial: Dial) -> None:
        """The client has shaken hands, and so is watched already."""
        self._client, self.tls = handshake.sock, handshake.end
        dial.client_watched = True
        self.reactor.hand_over(self.client, Waiting(dial))

    def connected(self, backend: Socket, slot: Slot) -> None:
        """The backend has answered: from now on bytes flow."""
        self.backend = backend
        self.slot = slot
        self.dial = None
        client, far = self.client, backend.fileno()
        inbound = self.inbound = Stream(self, client, far, True)
        outbound = self.outbound = Stream(self, far, client, False)
        inbound.other, outbound.other = outbound, inbound
        inbound.source_tls = outbound.sink_tls = self.tls
        self.clear = self.tls is None
        self.reactor.hand_over(far, outbound)

    def settle(self) -> None:
        """Find out whether the short way is open again."""
        inbound, outbound = self.inbound, self.outbound
        if inbound is not None and outbound is not None:
            self.clear = self.tls is None and not (
                inbound.ended or outbound.ended or inbound.held or outbound.held or inbound.fault or outbound.fault
            )

    def end_sink(self, stream: Stream) -> None:
        """Pass on the end of a direction. Errors: OSError if the sink is dead."""
        if stream.sink_tls is not None and stream.sink_tls.end() and stream.other is not None:
            stream.other.pump_later()  # the client's end was found meanwhile, so that no news will tell of it
        sink = self.backend if stream is self.inbound else self.client_socket()
        assert sink is not None
        sink.shutdown(SHUT_WR)

    def error_of(self, stream: Stream) -> OSError:
        """What the source of a stream has failed with."""
        source = self.client_socket() if stream is self.inbound else self.backend
        assert source is not None
        return OSError(source.getsockopt(SOL_SOCKET, SO_ERROR), "found dead")

    def client_socket(self) -> Socket:
        """The client's socket, for what cannot be done with its descriptor."""
        client = self._client
        if client is None:
            client = self._client = Socket(self.listener.family, SOCK_STREAM, 0, self.client)
        return client

    def take_client(self) -> int:
        """The client's descriptor, from now on the caller's to close."""
        return self.client if self._client is None else self._client.detach()

    def both_ended(self, first: Stream) -> None:
        """Both sides have ended in order."""
        if self.tls is not None:
            self.tls.end()
        self.end(Reason.CLIENT_CLOSED if first is self.inbound else Reason.BACKEND_CLOSED)

    def broke(self, stream: Stream) -> None:
        """The source of ``stream`` was reset. A reset stays a reset; an answer that was whole stays whole."""
        backend = self.backend
        assert backend is not None
        if stream is self.inbound:
            if self.tls is not None and self.tls.is_truncated:
                # All that came is passed on, and then a reset: an orderly end would tell the backend that it was all.
                self.end(Reason.TLS_TRUNCATED, keep_backend=True)
                reset_when_delivered(self.reactor, self.listener.plane.descriptors, backend)
                return
            backend.setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
            self.end(Reason.CLIENT_RESET)
        elif stream.ended:
            # The backend had answered and closed, then refused what the client still sends. Closing with that
            # unread would reset the client, and its answer might be lost on the way.
            self.end(Reason.BACKEND_CLOSED, keep_client=True)
            discard_until_end(self.reactor, self.listener.plane.descriptors, self.client_socket())
        else:
            self.end(Reason.BACKEND_RESET, keep_client=True)
            reset_when_delivered(self.reactor, self.listener.plane.descriptors, self.client_socket())

    def abort(self, reason: Reason) -> None:
        """End it from our side; both peers see a reset, for what they got may not be whole."""
        self.client_socket().setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
        if self.backend is not None:
            self.backend.setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
        self.end(reason)

    def end(self, reason: Reason, keep_client: bool = False, keep_backend: bool = False) -> None:
        """Close, count and forget the session. What is to be kept is the caller's to close; one of them at most."""
        reactor, backend = self.reactor, self.backend
        if self.dial is not None:
            self.dial.cancel()
        if keep_client:
            reactor.ignore(self.client)
        else:
            reactor.discard(self.take_client())
        if keep_backend and backend is not None:
            reactor.ignore(backend.fileno())
        elif backend is not None:
            reactor.discard(backend.detach())
        kept = PER_LINGERING if keep_client or keep_backend else 0
        self.listener.ended(self, reason, PER_TCP_SESSION - kept)
        # Break the circle of references, so that the memory is free at once and not at some collection's leisure.
        for stream in (self.inbound, self.outbound):
            if stream is not None:
                stream.let_go()
                stream.other = None
        self.clear = False
        self.inbound = self.outbound = None

    def sweep(self, now: float, idle_timeout: float) -> None:
        """Look after a session that has grown old: find out if it is idle, and whether its peers still live."""
        if self.backend is None:
            return  # the dial has a deadline of its own
        moved = self.bytes_in + self.bytes_out
        if self.moved_before < 0:
            self.listener.plane.liveness.apply(self.backend)
        if moved != self.moved_before:
            self.moved_before = moved
            self.moved_at = now
        elif idle_timeout and now - self.moved_at >= idle_timeout:
            self.abort(Reason.IDLE_TIMEOUT)

    @property
    def bytes_in(self) -> int:
        """Bytes that the client sent and the backend's socket took."""
        return self.inbound.moved if self.inbound is not None else 0

    @property
    def bytes_out(self) -> int:
        """Bytes that the backend sent and the client's socket took."""
        return self.outbound.moved if self.outbound is not None else 0

    def view(self, now: float, wall: float) -> SessionView:
        """The session as others see it."""
        slot = self.slot
        return SessionView(
            id=str(self.id),
            service_id=self.listener.service_id,
            protocol=Protocol.TCP,
            client=plain_address(self.client_address),
            backend_id=slot.backend_id if slot else None,
            backend=slot.address if slot else None,
            state=self._state(),
            started=wall - (now - self.started),
            age=now - self.started,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
        )

    def _state(self) -> str:
        if self.inbound is None or self.outbound is None:
            return "connecting"
        if self.inbound.ended or self.outbound.ended:
            return "half_closed"
        return "open"


class TcpListener(Watcher):
    """The TCP half of a service: accepts, and owns the sessions that come of it.

    Closing: ``close()`` stops listening at once and leaves the sessions; the plane ends those.
    """

    def __init__(
        self, plane: DataPlane, service_id: str, sock: socket.socket, policy: Policy, tls: TlsTerms | None = None
    ) -> None:
        self.plane = plane
        self.reactor: Reactor = plane.reactor
        self.door = Door(tls) if tls is not None else None
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
            if idle_timeout or (session.moved_before < 0 and now - session.started >= GROWN_UP):
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
