"""The two ends of a session as tests hold them: one interface, plain or in TLS.

Python's ``SSLSocket`` cannot end one direction alone, so TLS is spoken in memory here, and sent by hand.
"""

from __future__ import annotations

import socket
import ssl

from support.sockets import reset


class PlainEnd:
    """A socket. What ``recv`` raises tells a reset from an end (``b""``)."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def sendall(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv(self, count: int = 1 << 16) -> bytes:
        return self.sock.recv(count)

    def end(self) -> None:
        """Say that nothing more is sent; what comes is still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Reset."""
        reset(self.sock)

    def close(self) -> None:
        self.sock.close()


class TlsEnd:
    """A side of TLS. What ``recv`` raises tells a reset or a truncation from an end (``b""``)."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_side: bool, name: str | None = None
    ) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side, name)

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
                continue
            except ssl.SSLError:
                self._flush()  # the alert
                raise
            self._flush()
            return

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        for begin in range(0, len(view), 1 << 14):
            self.tls.write(view[begin : begin + (1 << 14)])
            self._flush()

    def recv(self, count: int = 1 << 16) -> bytes:
        while True:
            try:
                return self.tls.read(count)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                self._feed()

    def end(self) -> None:
        """Say that nothing more is sent; what comes is still read."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()
        self.sock.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Reset."""
        reset(self.sock)

    def truncate(self) -> None:
        """End without saying so."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.sock.sendall(self._outgoing.read())

    def _feed(self) -> None:
        data = self.sock.recv(1 << 16)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()


AnEnd = PlainEnd | TlsEnd


def all_of(end: AnEnd) -> bytes:
    """Everything until an end in order; anything else raises."""
    parts = bytearray()
    while data := end.recv():
        parts += data
    return bytes(parts)


def so_much(end: AnEnd, count: int) -> bytes:
    """So many bytes; less only if the peer ended before."""
    parts = bytearray()
    while len(parts) < count:
        data = end.recv(count - len(parts))
        if not data:
            break
        parts += data
    return bytes(parts)


def how_it_ends(end: AnEnd) -> str:
    """``"end"`` in order, ``"cut"`` otherwise; what still comes before is dropped."""
    try:
        all_of(end)
    except OSError:  # an SSLError, too
        return "cut"
    return "end"
