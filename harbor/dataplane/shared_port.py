"""One port of several services: a client gets the one that takes the server name which it asks for.

    Acceptor → SharedPort → Greeting (ClientHello, deadline) → TcpListener of the service → Dial

The socket belongs to nobody of them but to the port, and closes with the last one. While there is only one service, and
one that names no names, there is nothing to be told apart: then its clients are its own from the first moment, and
what they say is nobody's business.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harbor.dataplane.acceptor import Acceptor, Taker
from harbor.dataplane.greeting import Greeting
from harbor.dataplane.proxy_protocol import listen_to_proxy
from harbor.dataplane.reactor import Reactor
from harbor.model import Address, Reason
from harbor.policy.sni import matching

if TYPE_CHECKING:
    from harbor.dataplane.plane import DataPlane
    from harbor.dataplane.tcp import TcpListener


class SharedPort(Taker):
    """The port, and who takes which names on it. Clients that nobody takes are counted with whoever takes the rest,
    else with the service that has been there longest, which also says whether proxies introduce them.

    Closing: it closes when the last of its services does, and ends those who have not said whom they want.
    """

    def __init__(self, plane: DataPlane, sock: socket.socket, where: Address) -> None:
        self.plane = plane
        self.reactor: Reactor = plane.reactor
        self.family = sock.family
        self.port = where.port
        self._where = where
        self._acceptor = Acceptor(plane, sock)
        self._names: dict[TcpListener, tuple[str, ...]] = {}  # of all that have the port
        self._open: list[TcpListener] = []  # those of them that are served
        self._takers: dict[str, TcpListener] = {}
        self._rest: TcpListener | None = None  # who gets everybody else
        self._is_open = False

    def take(self, listener: TcpListener, names: Sequence[str]) -> None:
        """Let a service have the port too, or take other names from now on."""
        self._names[listener] = tuple(names)
        self._divide()

    def open(self, listener: TcpListener) -> None:
        """Serve it from now on."""
        self._open.append(listener)
        self._divide()
        if not self._is_open:
            self._is_open = True
            self._acceptor.open(self._acceptor.taker)

    def close(self, listener: TcpListener) -> None:
        """Serve it no more."""
        if listener not in self._names:
            return
        if len(self._names) == 1:
            self._acceptor.close(self)
            self.plane.newcomers.forget(self)
            self.plane.shared.pop(self._where)
        del self._names[listener]
        if listener in self._open:
            self._open.remove(listener)
        self._divide()

    def choose(self, server_name: str | None) -> TcpListener | None:
        """Who takes this name."""
        for name in matching(server_name):
            if name in self._takers:
                return self._takers[name]
        return self._rest

    def accepted(self, client: int, address: Any) -> None:
        """A client has come: wait for it to say whom it wants. A proxy first says whom it speaks for."""
        proxies = self._open[0].proxies if self._open else None
        if proxies is not None:
            listen_to_proxy(self, proxies, client, address)
        else:
            self.introduced(client, address, self.reactor.now)

    def introduced(self, client: int, address: Any, accepted: float) -> None:
        """A proxy, which was accepted at that time, has told whom it speaks for; or the client came by itself."""
        Greeting(self, client, address, accepted).begin()

    def vouches_for(self, listener: TcpListener) -> bool:
        """Whether clients come in as the service wants: where it names proxies, they have to be those of the port."""
        wanted = listener.policy.accept_proxy
        return not wanted or wanted == self._open[0].policy.accept_proxy

    def lost(self, reason: Reason, freed: int) -> None:
        """A client did not get as far as to any service."""
        listener = self._rest or next(iter(self._open), None)
        if listener is None:
            self.plane.descriptors.give(freed)
            return
        listener.tally.opened += 1
        listener.lost(reason, freed)

    def _divide(self) -> None:
        self._takers = {name: listener for listener in self._open for name in self._names[listener]}
        self._rest = next((listener for listener in self._open if not self._names[listener]), None)
        self._acceptor.taker = self if self._takers or self._rest is None else self._rest
