"""HTTP on a relay: what passes between client and backend is read as HTTP/1.1 on the way.

The two streams of a session do as they always do, except that ``HttpRelay`` says what of the bytes goes on, what
an end of file means, and when it is over. Once both sides have become something else (WebSocket, CONNECT) it
steps out of the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harbor.dataplane.stream import Stream
from harbor.model import Reason
from harbor.policy.http import BackendRefused, End, HttpRefused, HttpRelay

if TYPE_CHECKING:
    from harbor.dataplane.session import TcpSession

# What a client is told who gets no session; all other ends are not the client's to understand.
PAGES: Final = {
    Reason.NO_BACKEND: (503, "No instance of the application is running"),
    Reason.LIMIT_BACKEND: (503, "All instances of the application are busy"),
    Reason.LIMIT_SERVICE: (503, "The application has as many connections as it may have"),
    Reason.QUEUE_TIMEOUT: (503, "The application stayed busy for as long as a connection may wait"),
    Reason.LIMIT_SOURCE: (429, "Your address has as many connections as it may have"),
    Reason.LIMIT_RATE: (429, "Connections come too fast"),
    Reason.LIMIT_NODE: (503, "The node has as many connections as it can have"),
    Reason.CONNECT_REFUSED: (502, "The application does not answer at its port"),
    Reason.CONNECT_FAILED: (502, "The application cannot be reached"),
    Reason.CONNECT_TIMEOUT: (504, "The application did not answer in time"),
    Reason.BACKEND_TLS_FAILED: (502, "The application's side of TLS failed, or its certificate is not accepted"),
}
HEAD_TIMEOUT: Final = 30.0  # seconds for a request head, whatever comes of it meanwhile
BODY_TIMEOUT: Final = 60.0  # seconds in which something of a body must come


class Requests(Stream):
    """What a client asks, on its way to the backend."""

    __slots__ = ("_heads", "_moved", "_owes_end", "_since", "http")

    def __init__(self, session: TcpSession, source: int, sink: int, sink_tells_room: bool, http: HttpRelay) -> None:
        super().__init__(session, source, sink, sink_tells_room)
        self.http = http
        self._owes_end = False  # the client has ended, and the backend is to learn it once both are a plain relay
        self._heads = 0
        self._moved = 0
        self._since = session.reactor.now

    def pump(self) -> None:
        """Pass on what there is, unless the client has sent far enough ahead; what it sent ahead before the rest."""
        http = self.http
        if self.other is None or self.held is not None:
            return
        if http.may_continue and not self.deliver(memoryview(b"")):
            return
        if self._owes_end and http.is_raw:
            self._owes_end = False
            super().finish()
        elif not http.holds_client:
            super().pump()

    def deliver(self, data: memoryview) -> bool:
        """Pass on what may go to the backend; False if reading has to stop."""
        http = self.http
        try:
            out = http.from_client(data)
        except HttpRefused as refused:
            self.session.refuse(refused.status, refused.words, Reason.BAD_REQUEST)
            return False
        went = super().deliver(memoryview(out)) if len(out) else True
        if http.is_over and self.other is not None:
            self.session.conclude()
            return False
        return went and not http.holds_client

    def finish(self) -> None:
        """The client sends no more."""
        if self.other is None or self.ended:
            return
        if self.http.is_over:
            self.ended = True  # what is still held for it goes out all the same
            return
        end = self.http.client_ended()
        if end is End.FORWARD:
            super().finish()
        elif end is End.LATER:
            self.ended = self._owes_end = True
        elif end is End.CLOSE:
            self.ended = True
            self.session.conclude()
        else:
            self.session.refuse(400, "It ended before it was whole", Reason.CLIENT_RESET)

    def is_all_out(self) -> bool:
        """Whether the backend has the whole of what it was asked."""
        return self.held is None and not self.http.waits_for_client

    def is_waiting(self) -> bool:
        """Also while the client has sent far enough ahead."""
        return super().is_waiting() or self.http.holds_client

    def is_overdue(self, now: float) -> bool:
        """Whether the client is too slow: with a head altogether, with a body since something of it came."""
        http = self.http
        if http.is_over or not http.waits_for_client or self.held is not None:  # then the backend is
            self._since, self._heads = now, http.requests
            return False
        in_body = http.requests != self._heads
        if in_body and self.moved != self._moved:
            self._since, self._moved = now, self.moved
        return now - self._since > (BODY_TIMEOUT if in_body else HEAD_TIMEOUT)


class Answers(Stream):
    """What the backend answers, on its way to the client. ``reason``: why nothing follows what is still held."""

    __slots__ = ("http", "reason")

    def __init__(self, session: TcpSession, source: int, sink: int, sink_tells_room: bool, http: HttpRelay) -> None:
        super().__init__(session, source, sink, sink_tells_room)
        self.http = http
        self.reason: Reason | None = None

    def pump(self) -> None:
        """Pass on what there is; at the end of the last answer, once it is out, end the session."""
        if not self.http.is_over:
            super().pump()
        elif self.other is not None:
            self.session.conclude()

    def last_for(self, reason: Reason) -> Reason:
        """Nothing more is to come, for this reason or the one that was given before."""
        if self.reason is None:
            self.reason = reason
        return self.reason

    def add(self, page: bytes) -> None:
        """Send the client something of our own, after what it is still to get of the backend's."""
        rest = memoryview(page)
        if self.held is not None:
            rest = memoryview(b"".join((self.held, page)))
            self.let_go()
        else:
            try:
                rest = rest[self.transmit(rest) :]
            except BlockingIOError:
                pass
            except OSError:
                return  # it has gone, and has lost nothing of the backend's
        if rest:
            self.hold(rest)

    def pass_end_on(self, other: Stream) -> None:
        """Tell the client that no more will come, where it may still send; else this is the end of the session."""
        if self.reason is None:
            super().pass_end_on(other)
        else:
            self.session.conclude()

    def deliver(self, data: memoryview) -> bool:
        """Pass on what the client may have; False if reading has to stop."""
        http = self.http
        try:
            out = http.from_backend(data)
        except BackendRefused as refused:
            self.session.refuse(502, refused.words, Reason.BAD_RESPONSE)
            return False
        went = super().deliver(memoryview(out)) if len(out) else True
        if self.other is None:
            return False
        if http.is_over:
            self.session.conclude()
            return False
        if http.may_continue:
            self.other.pump()
        return went and self.other is not None

    def finish(self) -> None:
        """The backend sends no more."""
        if self.other is None or self.ended:
            return
        if self.fault is not None and not self.is_whole():
            self.broke()
            return
        end = self.http.backend_ended()
        if end is End.FORWARD:
            super().finish()
        elif end is End.CLOSE:
            self.session.conclude()
        elif end is End.UNANSWERED:
            self.session.refuse(502, "The application closed the connection without an answer", Reason.BACKEND_CLOSED)
        else:
            super().broke()

    def broke(self) -> None:
        """The backend was reset, or was found dead."""
        if self.other is None or self.reason is not None:
            return  # nothing more was to come of it
        if self.http.is_idle and self.source_tls is not None and self.source_tls.is_truncated:
            self.session.conclude()  # nothing was under way, so that nothing can be lacking
        elif self.http.may_answer:
            self.session.refuse(502, "The application broke off the connection without an answer", Reason.BACKEND_RESET)
        elif self.http.is_answered:
            self.http.is_over = True
            self.session.conclude(Reason.BACKEND_RESET)
        else:
            super().broke()
