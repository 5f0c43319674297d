"""A UDP backend for tests: a thread that answers every datagram and says who it is."""

from __future__ import annotations

import contextlib
import socket
import threading

from harbor.model import Address
from support.sockets import PATIENCE, address_of, datagrams


class DatagramBackend:
    """Answers ``name:data`` to ``data``. ``clients`` are the addresses that datagrams came from, in order.

    Closing: ``close()`` frees the port: who sends there afterwards is told by ICMP. ``mute()`` lets it be silent.
    """

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name.encode()
        self.clients: list[Address] = []
        self._silent = False
        self._sock = datagrams(host, port)
        self._sock.settimeout(None)
        self.address = address_of(self._sock)
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def mute(self) -> None:
        """Take datagrams and say nothing any more, as a backend that hangs."""
        self._silent = True

    def speak(self) -> None:
        """Answer again."""
        self._silent = False

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it is not connected, says the kernel, and wakes the reader all the same
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._sock.close()

    def _answer(self) -> None:
        while True:
            try:
                data, client = self._sock.recvfrom(1 << 16)
            except OSError:
                return
            if not client:  # shut down
                return
            self.clients.append(Address(*client[:2]))
            if not self._silent:
                self._sock.sendto(self.name + b":" + data, client)
