"""A TLS client that can end its half and read on, which ``ssl.SSLSocket`` cannot: its ``unwrap()`` reads, too."""

from __future__ import annotations

import contextlib
import socket
import ssl


class TlsClient:
    """The client's end of TLS on a connected socket, which stays its maker's to close."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self.raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
        self._flush()

    def sendall(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def recv(self, size: int) -> bytes:
        """What comes next; nothing after close_notify. Errors: ssl.SSLEOFError at an end without it, OSError."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    def end(self) -> None:
        """Send close_notify and the end of the connection's half."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        self.raw.shutdown(socket.SHUT_WR)

    def _flush(self) -> None:
        self.raw.sendall(self._out.read())

    def _fill(self) -> None:
        data = self.raw.recv(1 << 18)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()
