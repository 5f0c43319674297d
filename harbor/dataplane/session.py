"""A TCP session: one client connection, the backend connection made for it, and how both end.

Whoever ends it from whichever side, it is counted with one reason, and each peer sees the end that was meant: in
order, as a reset, or as a page where the service speaks HTTP.
"""

from __future__ import annotations

import os
from _socket import socket as Socket  # noqa: N812 - without socket.socket's Python layer: 1 KiB and 4 µs less
from socket import MSG_PEEK, SHUT_WR, SO_ERROR, SO_LINGER, SOCK_STREAM, SOL_SOCKET
from typing import TYPE_CHECKING, Any

from harbor.dataplane.budget import PER_LINGERING, PER_TCP_SESSION
from harbor.dataplane.dial import Dial
from harbor.dataplane.http import PAGES, Answers, Requests
from harbor.dataplane.linger import discard_until_end, reset_when_delivered
from harbor.dataplane.newcomers import Newcomer
from harbor.dataplane.pacing import Pacing
from harbor.dataplane.sockets import RESET_ON_CLOSE, plain_address
from harbor.dataplane.stream import NOTHING, Stream
from harbor.dataplane.tls import TlsEnd
from harbor.model import Policy, Protocol, Reason, SessionView
from harbor.policy.age import age_limit
from harbor.policy.http import HttpRelay, refusal_page
from harbor.policy.rotation import Slot

if TYPE_CHECKING:
    from harbor.dataplane.tcp import TcpListener


class TcpSession:
    """One client connection and the backend connection made for it. ``clear``: nothing stands in the relay's way.

    Of the client there is a descriptor, and a socket object only once something asks for what descriptors cannot do.
    """

    __slots__ = (
        "_client",
        "backend",
        "backend_tls",
        "clear",
        "client",
        "client_address",
        "dial",
        "http",
        "id",
        "inbound",
        "listener",
        "moved_at",
        "moved_before",
        "outbound",
        "pacing",
        "reactor",
        "server_name",
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
        self.server_name: str | None = None  # which the client asked for, where that was heeded
        self.http: HttpRelay | None = None  # what reads along, where the service is aware of HTTP
        self.client_address = client_address
        self.started = listener.reactor.now
        self.backend: Socket | None = None
        self.backend_tls: TlsEnd | None = None  # what speaks TLS to the backend
        self.slot: Slot | None = None
        self.dial: Dial | None = None
        self.inbound: Stream | None = None
        self.outbound: Stream | None = None
        self.pacing: Pacing | None = None
        self.clear = False
        self.moved_at = self.started
        self.moved_before = -1  # bytes both ways at the last sweep; -1: too young for one

    def take_over(self, newcomer: Newcomer) -> None:
        """The client has said something before."""
        self._client, self.tls = newcomer.sock, newcomer.end
        self.server_name = newcomer.server_name

    def client_is_silent(self) -> bool:
        """Whether nothing of the client lies there to be read."""
        try:
            return not self.client_socket().recv(1, MSG_PEEK)
        except OSError:
            return True

    def wants_an_answer(self) -> bool:
        """Whether a client that has sent its end may be waiting for an answer all the same.

        Who has said something may, but in TLS what lies there may be no more than its farewell, and in HTTP clients
        keep their side open for as long as they wait.
        """
        return self.tls is None and self.http is None and not self.client_is_silent()

    def connected(self, backend: Socket, slot: Slot, tls: TlsEnd | None) -> None:
        """The backend has answered, and shaken hands where it has to: from now on bytes flow."""
        self.backend = backend
        self.backend_tls = tls
        self.slot = slot
        self.dial = None
        client, far = self.client, backend.fileno()
        http = self.http
        if http is None:
            inbound, outbound = Stream(self, client, far, True), Stream(self, far, client, False)
        else:
            inbound, outbound = Requests(self, client, far, True, http), Answers(self, far, client, False, http)
        self.inbound, self.outbound = inbound, outbound
        inbound.other, outbound.other = outbound, inbound
        inbound.source_tls = outbound.sink_tls = self.tls
        inbound.sink_tls = outbound.source_tls = tls
        self.clear = self.tls is None and http is None and tls is None and self.pacing is None
        self.reactor.hand_over(far, outbound)

    def pace(self, pacing: Pacing | None) -> None:
        """Read no faster than this allows, from now on."""
        self.pacing = pacing
        self.settle()

    def settle(self) -> None:
        """Find out whether the short way is open again."""
        inbound, outbound = self.inbound, self.outbound
        if inbound is not None and outbound is not None:
            self.clear = (
                self.tls is None
                and self.http is None
                and self.backend_tls is None
                and self.pacing is None
                and not (
                    inbound.ended or outbound.ended or inbound.held or outbound.held or inbound.fault or outbound.fault
                )
            )

    def end_sink(self, stream: Stream) -> None:
        """Pass on the end of a direction. Errors: BlockingIOError if it has to wait, OSError if the sink is dead."""
        if stream.sink_tls is not None:
            stream.sink_tls.end()
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
        self.end(Reason.CLIENT_CLOSED if first is self.inbound else Reason.BACKEND_CLOSED)

    def broke(self, stream: Stream) -> None:
        """The source of ``stream`` was reset. A reset stays a reset; an answer that was whole stays whole."""
        backend = self.backend
        assert backend is not None
        if stream is self.inbound:
            # After a failed send OpenSSL knows nothing of the reset, and takes it for an end.
            if self.tls is not None and self.tls.is_truncated and stream.fault is None:
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
            is_truncated = self.backend_tls is not None and self.backend_tls.is_truncated and stream.fault is None
            self.end(Reason.BACKEND_TRUNCATED if is_truncated else Reason.BACKEND_RESET, keep_client=True)
            reset_when_delivered(self.reactor, self.listener.plane.descriptors, self.client_socket())

    def unreachable(self, reason: Reason) -> None:
        """No backend takes the session."""
        if self.http is not None and reason in PAGES:
            self.say(refusal_page(*PAGES[reason]))
            self.conclude(reason)
        else:
            self.end(reason)

    def refuse(self, status: int, words: str, reason: Reason) -> None:
        """Answer an HTTP client where it would understand that, and end the session; reset it in mid-answer."""
        assert self.http is not None
        if self.http.is_answering:
            self.abort(reason)
            return
        page = self.http.page(status, words)
        if page and isinstance(self.outbound, Answers):
            self.outbound.add(page)
        if self.backend is not None:
            self.backend.setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)  # what it was asked is not whole, or wrong
        self.conclude(reason)

    def say(self, page: bytes) -> None:
        """Send a page to a client that nothing was sent to before."""
        try:
            if self.tls is not None:
                self.tls.send(memoryview(page))
            else:
                os.write(self.client, page)
        except OSError:
            pass

    def conclude(self, reason: Reason | None = None) -> None:
        """All is said: end in order once the client has taken it, and leave it time to read that."""
        if reason is None:
            has_left = self.inbound is not None and self.inbound.ended
            reason = Reason.CLIENT_CLOSED if has_left else Reason.BACKEND_CLOSED
        if isinstance(self.outbound, Answers):
            reason = self.outbound.last_for(reason)
            if self.outbound.held is not None:
                return  # it comes back when that is out
        client = self.client_socket()
        try:
            if self.tls is not None:
                self.tls.end()
            client.shutdown(SHUT_WR)
        except BlockingIOError:
            if self.outbound is not None:
                self.outbound.hold(NOTHING)
                return
        except OSError:
            pass  # it has gone
        if isinstance(self.inbound, Requests):
            self._let_go_of_backend(self.inbound.is_all_out())
        self.end(reason, keep_client=True)
        discard_until_end(self.reactor, self.listener.plane.descriptors, client)

    def _let_go_of_backend(self, in_order: bool) -> None:
        if self.backend is not None and not in_order:
            self.backend.setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
        elif self.backend_tls is not None:
            self.backend_tls.close()

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

    def sweep(self, now: float, policy: Policy) -> None:
        """Look after a session that has grown old: find out if it is idle, and whether its peers still live."""
        if self.backend is None:
            return  # the dial has a deadline of its own
        moved = self.bytes_in + self.bytes_out
        if self.moved_before < 0:
            self.listener.plane.liveness.apply(self.backend)
        if policy.max_session_age and now - self.started >= age_limit(policy.max_session_age, self.id):
            self.abort(Reason.MAX_SESSION_AGE)
        elif isinstance(self.inbound, Requests) and self.inbound.is_overdue(now):
            self.refuse(408, "The request took too long to come", Reason.BAD_REQUEST)
        elif moved != self.moved_before:
            self.moved_before = moved
            self.moved_at = now
        elif policy.idle_timeout and now - self.moved_at >= policy.idle_timeout:
            self.abort(Reason.IDLE_TIMEOUT)
        elif (
            policy.half_close_timeout
            and now - self.moved_at >= policy.half_close_timeout
            and self._state() == "half_closed"
        ):
            self.abort(Reason.HALF_CLOSE_TIMEOUT)

    @property
    def client_host(self) -> str:
        """The client's address, as people write it."""
        return plain_address(self.client_address).host

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
            server_name=self.server_name,
        )

    def _state(self) -> str:
        if self.inbound is None or self.outbound is None:
            return "waiting" if self.dial is None else "connecting"
        if self.inbound.ended or self.outbound.ended:
            return "half_closed"
        return "open"
