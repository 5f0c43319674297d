"""The first message of TLS, read just far enough to know which server name its client asks for.

Harbor ends no TLS here and judges none: whatever is well formed goes to a backend, byte for byte, and that one's TLS
decides. So only the shape is looked at (RFC 8446 §4.1.2, §5.1; RFC 6066 §3), and of the extensions only the name: it
must be as OpenSSL wants it, a list of exactly one host name, so that both read the same one. Where the real name is
encrypted (ECH) it is the outer one.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

HANDSHAKE: Final = 22  # the type of a record
CLIENT_HELLO: Final = 1  # the type of a message
SERVER_NAME: Final = 0  # the type of an extension, and of a name: host_name
RECORD_HEADER: Final = 5
LONGEST_RECORD: Final = 1 << 14
# Bytes of a message: ten times what clients send that offer post-quantum key shares.
LONGEST_HELLO: Final = 1 << 14
# Bytes of all its records, headers included. It may come in many small records, but not in any number of them.
MOST: Final = 2 * LONGEST_HELLO


class Verdict(Enum):
    """What has come so far."""

    UNFINISHED = "unfinished"
    WHOLE = "whole"
    NOT_TLS = "not_tls"
    MALFORMED = "malformed"  # TLS, but no ClientHello, or one that is too long


class HelloReader:
    """Reads what one client says, in whatever pieces it comes. Its memory is bounded by ``MOST``."""

    __slots__ = ("_hello", "_left", "_read", "_unread", "server_name", "verdict")

    def __init__(self) -> None:
        self.verdict = Verdict.UNFINISHED
        self.server_name: str | None = None  # as it came; whatever is no ASCII in it is no name either
        self._unread = bytearray()
        self._left = 0  # bytes of the record under way that have not come yet
        self._read = 0  # bytes of all records so far
        self._hello = bytearray()

    def feed(self, data: bytes | memoryview) -> Verdict:
        """Take the next bytes. Once it is decided, more of them change nothing. Never raises."""
        if self.verdict is Verdict.UNFINISHED:
            self._unread += data
            while self.verdict is Verdict.UNFINISHED and self._unread:
                if not self._left and not self._begin_record():
                    break
                piece = self._unread[: self._left]
                del self._unread[: self._left]
                self._left -= len(piece)
                self._hello += piece
                self._judge()
        return self.verdict

    def _begin_record(self) -> bool:
        """Read the header of a record; False if it has not all come, or is none."""
        unread = self._unread
        if unread[0] != HANDSHAKE or (len(unread) > 1 and unread[1] != 3):
            self.verdict = Verdict.MALFORMED if self._read else Verdict.NOT_TLS
            return False
        if len(unread) < RECORD_HEADER:
            return False
        length = unread[3] << 8 | unread[4]
        self._read += RECORD_HEADER + length
        if not 0 < length <= LONGEST_RECORD or self._read > MOST:
            self.verdict = Verdict.MALFORMED
            return False
        del unread[:RECORD_HEADER]
        self._left = length
        return True

    def _judge(self) -> None:
        hello = self._hello
        if hello and hello[0] != CLIENT_HELLO:
            self.verdict = Verdict.MALFORMED
        elif len(hello) >= 4:
            length = hello[1] << 16 | hello[2] << 8 | hello[3]
            if length > LONGEST_HELLO:
                self.verdict = Verdict.MALFORMED
            elif len(hello) >= 4 + length:
                self._finish(bytes(hello[4 : 4 + length]))

    def _finish(self, body: bytes) -> None:
        try:
            self.server_name = _server_name(body)
        except _Malformed:
            self.verdict = Verdict.MALFORMED
        else:
            self.verdict = Verdict.WHOLE


class _Malformed(Exception):
    """What was read is not as it should be."""


class _Bytes:
    """Bytes that are taken from the front."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def are_left(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next so many. Errors: ``_Malformed`` if there are fewer."""
        end = self._at + count
        if end > len(self._data):
            raise _Malformed
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, width: int) -> int:
        """The next ``width`` bytes as a number."""
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        """As many bytes as the next number says."""
        return self.take(self.number(width))


def _server_name(body: bytes) -> str | None:
    """The name in a ClientHello, None if it has none. Errors: ``_Malformed``."""
    hello = _Bytes(body)
    hello.take(2 + 32)  # version and random
    hello.vector(1)  # session
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression methods
    if not hello.are_left:
        return None
    extensions = _Bytes(hello.vector(2))
    if hello.are_left:
        raise _Malformed
    name: str | None = None
    while extensions.are_left:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind == SERVER_NAME:
            if name is not None:
                raise _Malformed
            name = _host_name(content)
    return name


def _host_name(content: bytes) -> str:
    extension = _Bytes(content)
    names = _Bytes(extension.vector(2))
    kind = names.number(1)
    name = names.vector(2)
    if kind != SERVER_NAME or names.are_left or extension.are_left:
        raise _Malformed
    return name.decode("latin-1")
