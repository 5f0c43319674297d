"""The head of a request and of a response, as they come in pieces and as they go on.

Both readers remember the last fields and what they said: on a busy connection those rarely change, and then a head
costs a comparison.
"""

from __future__ import annotations

import re
from typing import Final

from harbor.policy.http.fields import (
    BROKEN,
    CHUNKED,
    NONE,
    RequestFields,
    ResponseFields,
    request_fields,
    response_fields,
)
from harbor.policy.http.forwarding import Forwarding
from harbor.policy.http.refused import Malformed
from harbor.policy.http.start_line import STATUS_LINE, plain_target, request_line

REQUEST_LIMIT: Final = 32 << 10  # nginx takes 4 x 8 KiB, gunicorn less
RESPONSE_LIMIT: Final = 64 << 10
FIELDS_LIMIT: Final = 100  # of a request, as gunicorn and Apache; browsers send about 20
COMMON: Final = 4096  # most responses have their head in there; no need to look at more of what was read
REMEMBERED: Final = 2048  # bytes of fields; idle connections shall not hold more


class RequestHead:
    """The request head that was read last: ``out`` goes to the backend."""

    __slots__ = ("_forwarding", "_key", "_known", "_seen", "fields", "is_1_1", "method", "out")

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding
        self._key = b""
        self._known: RequestFields | None = None
        self._seen = 0  # bytes of a head that is not whole, found good so far
        self.fields: RequestFields
        self.method = b""
        self.is_1_1 = False
        self.out = b""

    def read(self, data: bytes | memoryview, position: int) -> int:
        """Where the head ends that begins at ``position``; the same position if it is not whole."""
        self.method = b""
        text = bytes(data[position : position + REQUEST_LIMIT])
        if text.startswith(b"\r\n"):  # some clients end a body with an empty line (RFC 9112, 2.2)
            end = self._read(text[2:])
            return position + 2 + end if end else position
        return position + self._read(text)

    def _read(self, text: bytes) -> int:
        end = text.find(b"\r\n\r\n", max(self._seen - 3, 0))
        if end < 0:
            _check_beginning(text, self._seen)
            self._seen = len(text)
            return 0
        self._seen = 0
        line = request_line(text)
        self.method = line[1]
        self.is_1_1 = line[3] == b"1"
        self.fields = fields = self._fields_of(text, line.end(), end + 2)
        self.out = self._first_line(line, fields) + fields.block
        return end + 4

    def _fields_of(self, text: bytes, start: int, end: int) -> RequestFields:
        key = text[start:end]
        if self._known is not None and key == self._key:
            return self._known
        if key.count(b"\n") > FIELDS_LIMIT:
            raise Malformed(f"Its header has more than {FIELDS_LIMIT} fields", 431)
        fields = request_fields(text, start, end, self._forwarding)
        if len(key) <= REMEMBERED:
            self._key, self._known = key, fields
        return fields

    def _first_line(self, line: re.Match[bytes], fields: RequestFields) -> bytes:
        """The request line as it goes on, if it and the fields fit each other."""
        if not self.is_1_1:
            if fields.length == CHUNKED:
                raise Malformed("HTTP/1.0 has no Transfer-Encoding")
        elif fields.host is None:
            raise Malformed("It has no Host")
        if self.method == b"CONNECT" and fields.length != NONE:
            raise Malformed("CONNECT has no body")
        target: bytes = line[2]
        plain = plain_target(self.method, target, fields.host)
        return line[0] if plain == target else b"%b %b HTTP/1.%b\r\n" % (self.method, plain, line[3])


class ResponseHead:
    """The response head that was read last. ``instead`` goes to the client if it is not None."""

    __slots__ = ("_hsts", "_key", "_known", "_seen", "fields", "instead", "is_1_1", "status")

    def __init__(self, hsts: str | None) -> None:
        self._hsts = None if hsts is None else b"Strict-Transport-Security: %b\r\n\r\n" % hsts.encode()
        self._key = b""
        self._known = False
        self._seen = 0
        self.fields: ResponseFields
        self.status = 0
        self.is_1_1 = False
        self.instead: bytes | None = None

    def read(self, data: bytes | memoryview, position: int) -> int:
        """Where the head ends that begins at ``position``; the same position if it is not whole."""
        text = bytes(data[position : position + COMMON])
        end = text.find(b"\r\n\r\n")
        if end < 0:
            text = bytes(data[position : position + RESPONSE_LIMIT])
            end = text.find(b"\r\n\r\n")
            if end < 0:
                _check_beginning_of_response(text, self._seen)
                self._seen = len(text)
                return position
        self._seen = 0
        head = text[: end + 4]
        if not self._known or head != self._key:
            self._learn(head)
        return position + end + 4

    def _learn(self, head: bytes) -> None:
        self._known = False
        line = STATUS_LINE.match(head)
        if line is None:
            raise Malformed("The first line of its response is not HTTP/1.1 and a status")
        self.is_1_1 = line[1] == b"1"
        self.status = int(line[2])
        self.fields = response_fields(head, line.end(), len(head) - 2)
        adds = self._hsts is not None and self.status >= 200 and not self.fields.has_hsts
        self.instead = head[:-2] + self._hsts if adds and self._hsts is not None else None
        if len(head) <= REMEMBERED:
            self._key, self._known = head, True


def _check_beginning(text: bytes, seen: int) -> None:
    """Whether a request can still become of this. Who sends something else need not wait for a timeout."""
    if len(text) >= REQUEST_LIMIT - 2:
        raise Malformed(f"Its head is longer than {REQUEST_LIMIT} bytes", 431)
    if text.find(b"\r\n") >= max(seen - 1, 0):
        request_line(text)
    if BROKEN.search(text, max(seen - 1, 0)):
        raise Malformed("Its head contains a control character, or a line that does not end with CR LF")


def _check_beginning_of_response(text: bytes, seen: int) -> None:
    if len(text) >= RESPONSE_LIMIT:
        raise Malformed(f"The head of its response is longer than {RESPONSE_LIMIT} bytes")
    if BROKEN.search(text, max(seen - 1, 0)) or text[:7] != b"HTTP/1."[: len(text)]:
        raise Malformed("What it sent is not the head of a response")
