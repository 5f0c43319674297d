"""The proxy of a case, and the sockets around it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final

from conformance.wish import Wish
from harbor.model import Address
from support.backends import Backend, Serve, echo
from support.sockets import address_of, connected, datagrams, listening

PATIENCE: Final = 10.0  # seconds; against hanging only
LITTLE: Final = 1.0  # where it is known that nothing comes


class Proxy:
    """One proxy. ``expected`` tells whether it is known to pass the case; if not, nobody waits for it for long.

    Closing: ``close()`` ends all sockets that were made through it.
    """

    def __init__(self, name: str, expected: bool, open_port: Callable[[Wish], Address]) -> None:
        self.name = name
        self.patience = PATIENCE if expected else LITTLE
        self._open_port = open_port
        self._stack = contextlib.ExitStack()

    def open(self, *backends: Address, **wish: Any) -> Address:
        """A port in front of these backends. Errors: ``Lacks``; RuntimeError, no difference, if it does not start."""
        try:
            return self._open_port(Wish(backends=backends, **wish))
        except AssertionError as error:
            raise RuntimeError(f"{self.name} does not start") from error

    def keep(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(self.patience)
        return self._stack.enter_context(sock)

    def backend(self, serve: Serve = echo, host: str = "127.0.0.1") -> Backend:
        """A TCP backend in threads."""
        return self._stack.enter_context(contextlib.closing(Backend(serve, host)))

    def listening(self, host: str = "127.0.0.1", backlog: int = 128) -> socket.socket:
        """A TCP backend that the case serves itself."""
        return self.keep(listening(host, backlog))

    def refusing(self) -> Address:
        """Where connections are refused. The port is taken, so that nobody else comes to listen there."""
        sock = self.keep(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        sock.bind(("127.0.0.1", 0))
        return address_of(sock)

    def client(self, port: Address, source: str | None = None, receive_buffer: int | None = None) -> socket.socket:
        """A TCP client."""
        return self.keep(connected(port, source, receive_buffer))

    def datagrams(self, host: str = "127.0.0.1") -> socket.socket:
        """A UDP client or backend."""
        return self.keep(datagrams(host))

    def accepted(self, backend: socket.socket) -> socket.socket:
        """The next connection to a backend."""
        return self.keep(backend.accept()[0])

    def pair(self, **wish: Any) -> tuple[socket.socket, socket.socket]:
        """A session: the client's end and the backend's."""
        backend = self.listening()
        port = self.open(address_of(backend), **wish)
        near = self.client(port)
        return near, self.accepted(backend)

    def close(self) -> None:
        self._stack.close()
