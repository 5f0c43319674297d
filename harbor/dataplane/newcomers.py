"""Clients that were accepted and have no session yet, because they have to say something first.

Whatever they are to say, each has one deadline that nothing extends, and when too many wait the oldest gives way, who
has had the most time.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Final

from harbor.dataplane.acceptor import Taker
from harbor.dataplane.budget import PER_LINGERING, PER_TCP_SESSION, Descriptors
from harbor.dataplane.linger import discard_until_end
from harbor.dataplane.reactor import Watcher
from harbor.model import Reason

if TYPE_CHECKING:
    from harbor.dataplane.reactor import Reactor
    from harbor.dataplane.tls import TlsEnd

PATIENCE: Final = 10.0  # seconds from accept to the session
LOOK_EVERY: Final = 0.25  # seconds between looks at who is overdue
MOST: Final = 4096  # clients of whom this node waits to hear, at a time


class Newcomer(Watcher):
    """One such client. It watches the client's socket, which is its own until a session takes it over.

    ``end`` is what ends the client's TLS, if anything does; ``server_name`` the one that decided something; ``overdue``
    is the reason if it says too little in time; ``is_checked``: its service has looked at its address and wants it.
    """

    __slots__ = ("address", "due", "end", "is_checked", "overdue", "server_name", "sock", "taker")

    def __init__(self, taker: Taker, sock: socket.socket, address: Any, accepted: float) -> None:
        self.taker = taker
        self.sock = sock
        self.address = address
        self.due = accepted + PATIENCE
        self.overdue = Reason.TLS_HANDSHAKE_FAILED
        self.end: TlsEnd | None = None
        self.server_name: str | None = None
        self.is_checked = False


class Newcomers:
    """All of them on this node, and the watch over those that take too long."""

    def __init__(self, reactor: Reactor, descriptors: Descriptors) -> None:
        self._reactor = reactor
        self._descriptors = descriptors
        self._all: dict[Newcomer, None] = {}  # oldest first
        self._is_looking = False

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, newcomer: object) -> bool:
        return newcomer in self._all

    def take_in(self, newcomer: Newcomer, events: int) -> None:
        """Wait for a client that has just been accepted."""
        if len(self._all) >= MOST:
            self.end(next(iter(self._all)), Reason.LIMIT_NODE)
        self._all[newcomer] = None
        self._reactor.watch(newcomer.sock.fileno(), newcomer, events)
        if not self._is_looking:
            self._is_looking = True
            self._reactor.loop.call_later(LOOK_EVERY, self._look)

    def let_go(self, newcomer: Newcomer) -> None:
        """It has said what it had to: it is the caller's now."""
        del self._all[newcomer]

    def end(self, newcomer: Newcomer, reason: Reason) -> None:
        """Close the connection of a client that need not be told anything."""
        del self._all[newcomer]
        newcomer.taker.lost(reason, PER_TCP_SESSION)
        self._reactor.discard(newcomer.sock.detach())

    def refuse(self, newcomer: Newcomer, reason: Reason) -> None:
        """End it in order, and leave the client time to read what it was told."""
        del self._all[newcomer]
        newcomer.taker.lost(reason, PER_TCP_SESSION - PER_LINGERING)
        self._reactor.ignore(newcomer.sock.fileno())
        try:
            newcomer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has gone already
        discard_until_end(self._reactor, self._descriptors, newcomer.sock)

    def forget(self, taker: Taker) -> None:
        """Whoever took them in closes: end them."""
        for newcomer in [one for one in self._all if one.taker is taker]:
            self.end(newcomer, Reason.SERVICE_DELETED)

    def _look(self) -> None:
        self._is_looking = False
        now = time.monotonic()
        for newcomer in [one for one in self._all if one.due <= now]:
            self.end(newcomer, newcomer.overdue)
        if self._all:
            self._is_looking = True
            self._reactor.loop.call_later(LOOK_EVERY, self._look)
