"""Header fields, checked in one pass and looked at only where a relay must know them.

Rule 1: what is not exactly RFC 9112 is refused: a bare CR or LF, a folded line, a space before the colon, a control
character. Nothing is repaired, for two programs repair differently, and that difference is how requests are smuggled.
Rule 2: a field that says where a message ends stands once, in its plainest form.
Rule 3: a name that differs from one of those that matter only by ``_`` for ``-`` is dropped: applications that see
both as HTTP_X_FORWARDED_FOR cannot tell them apart.
"""

from __future__ import annotations

import re
from typing import Final

from harbor.policy.http.forwarding import WRITTEN, Forwarding, heard, tells_of_client
from harbor.policy.http.refused import Malformed

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE: Final = rb"[^\x00-\x08\x0a-\x1f\x7f]"
FIELDS: Final = re.compile(rb"(?:%b++:%b*+\r\n)*+" % (TOKEN, VALUE))
# What no head may contain, to be told before the head is whole: control characters, bare CR, bare LF.
BROKEN: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~-]+)(?::[0-9]{1,5})?")
DIGITS: Final = re.compile(rb"[0-9]{1,18}")

NONE: Final = -1  # neither Content-Length nor Transfer-Encoding
CHUNKED: Final = -2


def _any_case(name: str) -> bytes:
    """A pattern for a name in any case, ``_`` or ``-``. Sets instead of a flag: sre can skip by first letters then."""
    parts = ("[-_]" if c == "-" else f"[{c.upper()}{c}]" for c in name)
    return "".join(parts).encode()


def _any_of(*names: str) -> bytes:
    return b"|".join(_any_case(name) for name in names)


OURS: Final = rb"%b|%b%b*" % (_any_of("forwarded", "x-real-ip"), _any_case("x-forwarded"), TOKEN)
FRAMING: Final = _any_of("content-length", "transfer-encoding")
HOPS: Final = _any_of("connection", "upgrade", "keep-alive", "proxy-connection", "http2-settings", "te")
# A field that matters, by the end of the line before it.
OF_REQUEST: Final = re.compile(
    rb"\n(%b|%b|%b|%b):[ ]*+([^\r]*+)" % (_any_of("host", "expect", "proxy"), FRAMING, HOPS, OURS)
)
OF_RESPONSE: Final = re.compile(
    rb"\n(%b):[ ]*+([^\r]*+)"
    % _any_of("content-length", "transfer-encoding", "connection", "strict-transport-security")
)
# What may not come after the body, when all decisions are made (RFC 9110, 6.5.1). By the start of its line.
NOT_IN_TRAILERS: Final = re.compile(
    rb"^(?:%b|%b|%b|%b):"
    % (
        _any_of("host", "expect", "trailer", "authorization", "cookie", "content-type", "content-encoding"),
        FRAMING,
        HOPS,
        OURS,
    ),
    re.MULTILINE,
)

KEPT_OPTIONS: Final = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))
# Fields that a request cannot do without; a Connection that names one wants them lost on the way.
NEEDED: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"trailer", b"expect"))
AS_THEY_ARE: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect", b"connection"))
ALWAYS_DROPPED: Final = frozenset((b"proxy", b"proxy-connection", b"keep-alive", b"http2-settings"))
NO_OPTIONS: Final[frozenset[bytes]] = frozenset()

Found = dict[bytes, list[bytes]]  # lower case name -> values, in their order


class RequestFields:
    """What a relay has to know of a request's fields; ``block`` is what the backend gets instead of them."""

    __slots__ = ("block", "closes", "expects", "host", "keeps", "length", "upgrades")

    def __init__(self, block: bytes, found: Found, options: frozenset[bytes], upgrades: bool) -> None:
        self.block = block
        self.length = length_of(found)
        self.host = host_of(found)
        self.expects = b"expect" in found
        self.closes = b"close" in options
        self.keeps = b"keep-alive" in options
        self.upgrades = upgrades


class ResponseFields:
    """What a relay has to know of a response's fields."""

    __slots__ = ("closes", "has_hsts", "keeps", "length")

    def __init__(self, found: Found) -> None:
        options = options_of(found)
        self.length = length_of(found)
        self.closes = b"close" in options
        self.keeps = b"keep-alive" in options
        self.has_hsts = b"strict-transport-security" in found


def request_fields(text: bytes, start: int, end: int, forwarding: Forwarding) -> RequestFields:
    """Read the lines ``text[start:end]``; the line before them, if any, ends at ``start``."""
    check(text, start, end)
    found = found_in(OF_REQUEST, text, start, end)
    options = options_of(found)
    upgrades = b"upgrade" in options and b"upgrade" in found and not _is_h2c(found[b"upgrade"])
    if found.keys() <= AS_THEY_ARE and options <= KEPT_OPTIONS and b"upgrade" not in options:
        block = text[start:end] + forwarding.plain + b"\r\n"
    else:
        block = rewritten(text[start:end], found, options, upgrades, forwarding)
    return RequestFields(block, found, options, upgrades)


def response_fields(text: bytes, start: int, end: int) -> ResponseFields:
    """Read the lines ``text[start:end]``; the line before them ends at ``start``."""
    check(text, start, end)
    return ResponseFields(found_in(OF_RESPONSE, text, start, end))


def check(text: bytes, start: int, end: int) -> None:
    """Every line is a field, strictly."""
    if FIELDS.fullmatch(text, start, end) is None:
        raise Malformed(what_is_wrong(text[start:end]))


def what_is_wrong(block: bytes) -> str:
    """Words for the first line that is no field. Nothing of the line itself: it may be anything."""
    for number, line in enumerate(block.split(b"\r\n"), 1):
        if BROKEN.search(line):
            return f"Header line {number} contains a control character, or ends without CR LF"
        if line[:1] in (b" ", b"\t"):
            return f"Header line {number} continues the line before it, which HTTP no longer allows"
        if line and FIELDS.fullmatch(line + b"\r\n") is None:
            return f"Header line {number} is not a name, a colon and a value"
    return "The header is not made of names, colons and values"


def found_in(pattern: re.Pattern[bytes], text: bytes, start: int, end: int) -> Found:
    """The fields that ``pattern`` asks for. Those written with ``_`` keep it, and so are no field that we know."""
    found: Found = {}
    for match in pattern.finditer(text, start - 1, end):
        name = match[1].lower()
        value = match[2].rstrip(b" ")
        if name in found:
            found[name].append(value)
        else:
            found[name] = [value]
    return found


def length_of(found: Found) -> int:
    """How long the body is: a number, ``CHUNKED`` or ``NONE``."""
    lengths = found.get(b"content-length")
    codings = found.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:
            raise Malformed("It has both a Content-Length and a Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise Malformed("Its Transfer-Encoding is not just chunked")
        return CHUNKED
    if lengths is None:
        return NONE
    if len(lengths) > 1:
        raise Malformed("It has more than one Content-Length")
    if DIGITS.fullmatch(lengths[0]) is None:
        raise Malformed("Its Content-Length is not a number of bytes")
    return int(lengths[0])


def host_of(found: Found) -> bytes | None:
    hosts = found.get(b"host")
    if hosts is None:
        return None
    if len(hosts) > 1:
        raise Malformed("It has more than one Host")
    if HOST.fullmatch(hosts[0]) is None:
        raise Malformed("Its Host is not the name or address of a host")
    return hosts[0]


def options_of(found: Found) -> frozenset[bytes]:
    """What Connection says, in lower case."""
    values = found.get(b"connection")
    if values is None:
        return NO_OPTIONS
    return frozenset(option for value in values for each in value.split(b",") if (option := each.strip(b" \t").lower()))


def rewritten(block: bytes, found: Found, options: frozenset[bytes], upgrades: bool, forwarding: Forwarding) -> bytes:
    """The lines of ``block`` that concern the backend, and ours."""
    if options & NEEDED:
        raise Malformed("Its Connection names a field that must reach the backend")
    dropped = ALWAYS_DROPPED | (options - KEPT_OPTIONS)
    keep = options & KEPT_OPTIONS
    if not upgrades:
        dropped |= {b"upgrade"}
        keep -= {b"upgrade"}
    if [value.lower() for value in found.get(b"te", ())] != [b"trailers"]:
        dropped |= {b"te"}
        keep -= {b"te"}
    if keep != options:
        dropped |= {b"connection"}
    lines = [line for line in block.split(b"\r\n")[:-1] if _concerns_backend(line, dropped, forwarding.trusted)]
    if keep and keep != options:
        lines.append(b"Connection: " + b", ".join(sorted(keep)))
    lines.append(forwarding.after(heard(found)) if forwarding.trusted else forwarding.plain)
    return b"\r\n".join(lines) + b"\r\n"


def _concerns_backend(line: bytes, dropped: frozenset[bytes], trusted: bool) -> bool:
    name = line[: line.index(b":")].lower()
    if name in dropped:
        return False
    plain = name.replace(b"_", b"-")
    if plain != name:
        return OF_REQUEST.match(b"\n" + plain + b":") is None
    if tells_of_client(name):
        return trusted and name not in WRITTEN
    return True


def _is_h2c(values: list[bytes]) -> bool:
    """HTTP/2 in the clear would be a tunnel in which requests pass unseen."""
    return any(each.strip(b" \t").lower().startswith(b"h2c") for value in values for each in value.split(b","))
