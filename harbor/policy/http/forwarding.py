"""For whom a request is made: X-Forwarded-For, -Proto and -Port, and Forwarded (RFC 7239), as the backend gets them.

What a client says about itself is dropped, unless it is trusted: then it is a proxy of ours, and what it says
comes first. Its protocol and port stand as well, for they are what the browser used.

A proxy may pass on what its own client made up, so of a trusted one, too, only what has the form of such a field is
heard: an open quote in Forwarded would swallow the element that we add.
"""

from __future__ import annotations

import re
from typing import Final

from harbor.model import Address

FOR: Final = b"x-forwarded-for"
PROTO: Final = b"x-forwarded-proto"
PORT: Final = b"x-forwarded-port"
FORWARDED: Final = b"forwarded"

WRITTEN: Final = (FOR, FORWARDED, PROTO, PORT)  # by us, whatever a peer may have said in them

# The forms in which they are heard; a list is what a row of proxies makes of protocol and port.
_LIST: Final = rb"%b(?:[ \t]*+,[ \t]*+%b)*+"
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_PAIR: Final = rb"%b=(?:%b|%b)" % (_TOKEN, _TOKEN, _QUOTED)
_ELEMENT: Final = rb"%b(?:;%b)*+" % (_PAIR, _PAIR)  # RFC 7239, 4
_SCHEME: Final = rb"(?:[Hh][Tt][Tt][Pp]|[Ww][Ss])[Ss]?+"
_NUMBER: Final = rb"[0-9]{1,5}+"
FORMS: Final = {
    PROTO: re.compile(_LIST % (_SCHEME, _SCHEME)),
    PORT: re.compile(_LIST % (_NUMBER, _NUMBER)),
    FORWARDED: re.compile(_LIST % (_ELEMENT, _ELEMENT)),
}
ALONE: Final = (PROTO, PORT)  # of two such fields nobody knows which one counts

# Not set by us, but applications believe them just as much.
BELIEVED: Final = (FORWARDED, b"x-real-ip")
BELIEVED_PREFIX: Final = b"x-forwarded"


def tells_of_client(name: bytes) -> bool:
    """Whether a field (its name in lower case, with dashes) says who the client is or what it asked."""
    return name in BELIEVED or name.startswith(BELIEVED_PREFIX)


def heard(found: dict[bytes, list[bytes]]) -> dict[bytes, list[bytes]]:
    """What of a trusted peer's fields (lower case name -> values) has the form that it must have."""
    said = {}
    for name in WRITTEN:
        values = [value for value in found.get(name, ()) if value]
        form = FORMS.get(name)
        if name in ALONE and len(values) > 1:
            continue
        if values and (form is None or all(form.fullmatch(value) for value in values)):
            said[name] = values
    return said


class Forwarding:
    """The fields of one connection. ``plain`` is what is set when the request says nothing itself, ready to send."""

    __slots__ = ("address", "element", "plain", "port", "scheme", "trusted")

    def __init__(self, client: Address, port: int, scheme: str, trusted: bool) -> None:
        self.trusted = trusted
        self.address = client.host.encode()
        self.scheme = scheme.encode()
        self.port = str(port).encode()
        node = b'"[%b]"' % self.address if ":" in client.host else self.address
        self.element = b"for=%b;proto=%b" % (node, self.scheme)
        self.plain = self.after({})

    def after(self, said: dict[bytes, list[bytes]]) -> bytes:
        """The fields to set after what was ``heard`` of a trusted peer."""
        fields = [
            b"X-Forwarded-For: " + b", ".join([*said.get(FOR, ()), self.address]),
            b"Forwarded: " + b", ".join([*said.get(FORWARDED, ()), self.element]),
            b"X-Forwarded-Proto: " + (said[PROTO][0] if PROTO in said else self.scheme),
            b"X-Forwarded-Port: " + (said[PORT][0] if PORT in said else self.port),
        ]
        return b"\r\n".join(fields) + b"\r\n"
