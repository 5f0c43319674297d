"""The chunked coding (RFC 9112, 7.1), checked and passed on as it is.

    body     = *(size [extension] CRLF data CRLF) 0 CRLF *(trailer CRLF) CRLF

Extensions are refused in requests: nobody needs them, and programs disagree on where they end. A size has at most 15
digits, so that no counter anywhere overflows.
"""

from __future__ import annotations

import re
from typing import Final

from harbor.policy.http.fields import BROKEN, FIELDS, NOT_IN_TRAILERS
from harbor.policy.http.refused import Malformed

EXTENSION: Final = rb"(?:[ \t]*+(?:;[^\x00-\x08\x0a-\x1f\x7f]{0,256}+)?+)"
LONGEST_LINE: Final = 300
LONGEST_TRAILERS: Final = 8192


class Grammar:
    """A size line: whole, the same after the end of a chunk's data, and the beginning of one."""

    __slots__ = ("beginning", "following", "size")

    def __init__(self, extension: bytes) -> None:
        self.size: re.Pattern[bytes] = re.compile(rb"([0-9A-Fa-f]{1,15}+)%b\r\n" % extension)
        self.following: re.Pattern[bytes] = re.compile(rb"\r\n([0-9A-Fa-f]{1,15}+)%b\r\n" % extension)
        self.beginning: re.Pattern[bytes] = re.compile(rb"[0-9A-Fa-f]{1,15}+%b\r?" % extension)


OF_REQUEST: Final = Grammar(b"")
OF_RESPONSE: Final = Grammar(EXTENSION)

SIZE: Final = 0
DATA: Final = 1
DATA_END: Final = 2
TRAILERS: Final = 3


class Chunked:
    """One chunked body, as its bytes come by."""

    __slots__ = ("_at", "_grammar", "_left", "_seen", "is_done")

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._at = SIZE
        self._left = 0
        self._seen = 0  # bytes of trailers that are not whole, found good so far
        self.is_done = False

    def feed(self, data: bytes | memoryview, position: int) -> int:
        """Up to where ``data`` may pass, from ``position`` on.

        If that is not all of it and the body is not done, the rest is the beginning of a line: bring it again with
        what comes next.
        """
        while position < len(data) and not self.is_done:
            if self._at == DATA:
                taken = min(self._left, len(data) - position)
                position += taken
                self._left -= taken
                if not self._left:
                    self._at = DATA_END
            else:
                before, at = position, self._at
                if at == DATA_END:
                    position = self._data_end(data, position)
                elif at == SIZE:
                    position = self._size(data, position)
                else:
                    position = self._trailers(data, position)
                if position == before and self._at == at:
                    break
        return position

    def _data_end(self, data: bytes | memoryview, position: int) -> int:
        match = self._grammar.following.match(data, position)
        if match is not None:
            return self._sized(match)
        end = bytes(data[position : position + 2])
        if end == b"\r\n":
            self._at = SIZE
            return position + 2
        if end == b"\r":
            return position
        raise Malformed("A chunk of its body is longer than it says")

    def _size(self, data: bytes | memoryview, position: int) -> int:
        match = self._grammar.size.match(data, position)
        if match is not None:
            return self._sized(match)
        line = bytes(data[position : position + LONGEST_LINE])
        if len(line) < LONGEST_LINE and self._grammar.beginning.fullmatch(line):
            return position
        raise Malformed("The size of a chunk of its body is not a hexadecimal number on a line of its own")

    def _sized(self, match: re.Match[bytes]) -> int:
        self._left = int(bytes(match[1]), 16)
        self._at = DATA if self._left else TRAILERS
        return match.end()

    def _trailers(self, data: bytes | memoryview, position: int) -> int:
        text = bytes(data[position : position + LONGEST_TRAILERS])
        if text.startswith(b"\r\n"):
            self.is_done = True
            return position + 2
        end = text.find(b"\r\n\r\n", max(self._seen - 3, 0)) + 2
        if end < 2:
            if len(text) == LONGEST_TRAILERS:
                raise Malformed("What follows its body is too long", 431)
            if BROKEN.search(text, max(self._seen - 1, 0)):
                raise Malformed("What follows its body is not made of header lines")
            self._seen = len(text)
            return position
        if FIELDS.fullmatch(text, 0, end) is None:
            raise Malformed("What follows its body is not made of header lines")
        if NOT_IN_TRAILERS.search(text, 0, end):
            raise Malformed("A field follows its body that must come before it")
        self.is_done = True
        return position + end + 2
