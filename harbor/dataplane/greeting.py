"""A client of a shared port says which server it wants.

What it says stays in its socket: it is only looked at (MSG_PEEK), and the backend gets it as if nobody had. So a
client that waits costs no memory of ours, and the session that comes of it is like any other.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from harbor.dataplane.newcomers import Newcomer
from harbor.dataplane.reactor import PEER_ENDED, READ_EDGES
from harbor.model import Reason
from harbor.policy import client_hello
from harbor.policy.client_hello import HelloReader, Verdict
from harbor.policy.sni import plain

if TYPE_CHECKING:
    from harbor.dataplane.shared_port import SharedPort

LOOK_AT: Final = client_hello.MOST + client_hello.RECORD_HEADER  # bytes after which it is decided
DECODE_ERROR: Final = 50  # RFC 8446 §6
UNRECOGNIZED_NAME: Final = 112


class Greeting(Newcomer):
    """A client of which nobody knows yet whom it wants."""

    __slots__ = ("_port", "_reader", "_seen")

    def __init__(self, port: SharedPort, client: int, address: Any, accepted: float) -> None:
        sock = socket.socket(port.family, socket.SOCK_STREAM, 0, client)
        super().__init__(port, sock, address, accepted)
        sock.setblocking(False)
        self._port = port
        self._reader = HelloReader()
        self._seen = 0

    def begin(self) -> None:
        """Wait for what it says."""
        self._port.plane.newcomers.take_in(self, READ_EDGES)

    def on_news(self, events: int) -> None:
        """The client has said something, or left."""
        reactor = self._port.reactor
        try:
            count = self.sock.recv_into(reactor.buffer, LOOK_AT, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        verdict = self._reader.feed(reactor.whole[self._seen : count])
        self._seen = count
        if verdict is Verdict.WHOLE:
            self._choose()
        elif verdict is Verdict.MALFORMED:
            self._refuse(DECODE_ERROR, Reason.TLS_HANDSHAKE_FAILED)
        elif verdict is Verdict.NOT_TLS or not count or events & PEER_ENDED:
            self._port.plane.newcomers.refuse(self, Reason.TLS_HANDSHAKE_FAILED)

    def _choose(self) -> None:
        name = self._reader.server_name
        listener = self._port.choose(name)
        if listener is None:
            self._refuse(UNRECOGNIZED_NAME, Reason.SERVER_NAME_UNKNOWN)
            return
        if not self._port.vouches_for(listener):
            self._port.plane.newcomers.end(self, Reason.PROXY_UNTRUSTED)
            return
        self.server_name = plain(name)
        self._port.plane.newcomers.let_go(self)
        listener.tally.opened += 1
        listener.heard(self)

    def _refuse(self, description: int, reason: Reason) -> None:
        """End it with a fatal alert, in a record as every version of TLS reads it."""
        try:
            self.sock.send(bytes((21, 3, 1, 0, 2, 2, description)))
        except OSError:
            pass  # it has gone already
        self._port.plane.newcomers.refuse(self, reason)
