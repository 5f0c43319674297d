"""The first line of a request or a response, and what a request asks for."""

from __future__ import annotations

import re
from typing import Final

from harbor.policy.http.fields import HOST
from harbor.policy.http.refused import Malformed

# Methods of capital letters only: nginx knows no others. A target has no spaces, no fragment, no control character and
# nothing beyond ASCII; what else RFC 3986 forbids ({, |, ...) browsers do send, and it means the same to everybody.
REQUEST_LINE: Final = re.compile(rb'([A-Z][A-Z_-]{0,31}+) ([!"$-~]++) HTTP/1\.([01])\r\n')
OTHER_VERSION: Final = re.compile(rb"[A-Z]{1,32}+ [^ \r\n]++ HTTP/(?!1\.[01])[0-9](?:\.[0-9])?\r\n")
STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\x00-\x08\x0a-\x1f\x7f]*+)?\r\n")
ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*+)(.*+)")


def request_line(text: bytes) -> re.Match[bytes]:
    """Method, target and minor version, at the start of ``text``."""
    line = REQUEST_LINE.match(text)
    if line is not None:
        return line
    if OTHER_VERSION.match(text):
        raise Malformed("Only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
    raise Malformed("Its first line is not a method, a target and HTTP/1.1")


def plain_target(method: bytes, target: bytes, host: bytes | None) -> bytes:
    """The target as an origin server wants it, a path; or, with CONNECT, whom to reach.

    Whoever asks with a whole URL must name the same host there and in Host. Programs do not agree on which one counts.
    """
    if method == b"CONNECT":
        if HOST.fullmatch(target) is None or b":" not in target:
            raise Malformed("CONNECT wants a host and a port")
        return target
    if target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"):
        return target
    absolute = ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Malformed("Its target is not a path")
    if host is None or absolute[1].lower() != host.lower():
        raise Malformed("Its target names another host than its Host")
    path = absolute[2]
    if path[:1] == b"/":
        return path
    return b"/" + path if path or method != b"OPTIONS" else b"*"
