"""A listening TCP socket: it accepts as far as descriptors are left, and hands on whom it took."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from harbor.dataplane.budget import PER_TCP_SESSION
from harbor.dataplane.reactor import READ, Reactor, Watcher
from harbor.model import Reason

if TYPE_CHECKING:
    from harbor.dataplane.plane import DataPlane

ACCEPTS: Final = 64  # connections accepted at one go
RETRY_ACCEPT: Final = 0.1  # seconds to wait when the kernel has no descriptor or memory for another


class Taker:
    """Who takes in the clients of a listening socket."""

    def accepted(self, client: int, address: Any) -> None:
        """A client has come. Its descriptor, which still blocks, is the taker's from now on."""
        raise NotImplementedError

    def lost(self, reason: Reason, freed: int) -> None:
        """A client never came to have a session; so many of its descriptors are free now."""
        raise NotImplementedError


class Acceptor(Watcher):
    """The socket of one port. ``taker``, set before it is opened, may change at any time.

    Closing: ``close(taker)`` stops listening at once; who was accepted stays the taker's.
    """

    def __init__(self, plane: DataPlane, sock: socket.socket) -> None:
        self.plane = plane
        self.reactor: Reactor = plane.reactor
        self.family = sock.family
        self.port: int = sock.getsockname()[1]
        self.taker = Taker()
        self._sock = sock
        self._accept: Callable[[], tuple[int, Any]] = sock._accept  # type: ignore[attr-defined]
        self._at_once = 1
        self._polls = -1  # the reactor's count of polls when clients waited last

    def open(self, taker: Taker) -> None:
        """Begin to accept."""
        self.taker = taker
        self.reactor.watch(self._sock.fileno(), self, READ)

    def close(self, taker: Taker) -> None:
        """Stop listening for it; clients in the backlog are reset by the kernel."""
        if self._sock.fileno() >= 0:
            self.reactor.discard(self._sock.detach())

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
            self.taker.accepted(fd, address)

    def _pause(self) -> None:
        self.plane.paused += 1
        self.plane.pauses += 1
        self.reactor.ignore(self._sock.fileno())

    def _resume(self) -> None:
        self.plane.paused -= 1
        if self._sock.fileno() >= 0:
            self.reactor.watch(self._sock.fileno(), self, READ)
