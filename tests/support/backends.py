"""Backends for tests: a listener in a thread, and what it does with a connection as a plain function."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from harbor.model import Address
from support.sockets import PATIENCE, address_of, listening, reset

Serve = Callable[[socket.socket], None]


def echo(conn: socket.socket) -> None:
    """Send back what comes, and the end after it."""
    while data := conn.recv(1 << 16):
        conn.sendall(data)


def greeting(text: bytes) -> Serve:
    """Speak first, then echo: tells the client which backend it has."""

    def serve(conn: socket.socket) -> None:
        conn.sendall(text)
        echo(conn)

    return serve


def sending(data: bytes) -> Serve:
    """Send this and close."""
    return lambda conn: conn.sendall(data)


def resetting_after(data: bytes) -> Serve:
    """Send this, and reset once the peer has it all."""

    def serve(conn: socket.socket) -> None:
        conn.sendall(data)
        conn.recv(1)
        reset(conn)

    return serve


class Backend:
    """A TCP backend. ``accepted`` counts connections, ``live`` those that are still served.

    Closing: ``close()`` ends every connection and waits for the threads.
    """

    def __init__(self, serve: Serve = echo, host: str = "127.0.0.1", port: int = 0) -> None:
        self._serve = serve
        self._listener = listening(host, backlog=4096, port=port)
        self._listener.settimeout(None)
        self.address: Address = address_of(self._listener)
        self.accepted = 0
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def live(self) -> int:
        return len(self._connections)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(PATIENCE)
        self._listener.close()
        with self._lock:
            for conn in self._connections:
                with contextlib.suppress(OSError):
                    conn.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            conn.settimeout(PATIENCE)
            self.accepted += 1
            with self._lock:
                self._connections.add(conn)
            thread = threading.Thread(target=self._run, args=(conn,))
            self._threads.append(thread)
            thread.start()

    def _run(self, conn: socket.socket) -> None:
        try:
            with conn:
                self._serve(conn)
        except OSError:
            pass  # the peer or close() ended it; the test looks at the other side
        finally:
            with self._lock:
                self._connections.discard(conn)
