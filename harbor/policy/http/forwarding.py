"""For whom a request is made: X-Forwarded-For, -Proto and -Port, and Forwarded (RFC 7239), as the backend gets them.

What a client says about itself is dropped, unless it is trusted: then it is a proxy of ours, and what it says
comes first. Its protocol and port stand as well, for they are what the browser used.
"""

from __future__ import annotations

from typing import Final

from harbor.model import Address

FOR: Final = b"x-forwarded-for"
PROTO: Final = b"x-forwarded-proto"
PORT: Final = b"x-forwarded-port"
FORWARDED: Final = b"forwarded"

# Not set by us, but applications believe them just as much.
BELIEVED: Final = (FORWARDED, b"x-real-ip")
BELIEVED_PREFIX: Final = b"x-forwarded"


def tells_of_client(name: bytes) -> bool:
    """Whether a field (its name in lower case, with dashes) says who the client is or what it asked."""
    return name in BELIEVED or name.startswith(BELIEVED_PREFIX)


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

    def after(self, found: dict[bytes, list[bytes]]) -> bytes:
        """The fields to set when a trusted peer sent those in ``found`` (lower case name -> values), without an end."""
        fields = [
            b"X-Forwarded-For: " + b", ".join([*found.get(FOR, ()), self.address]),
            b"Forwarded: " + b", ".join([*found.get(FORWARDED, ()), self.element]),
        ]
        if PROTO not in found:
            fields.append(b"X-Forwarded-Proto: " + self.scheme)
        if PORT not in found:
            fields.append(b"X-Forwarded-Port: " + self.port)
        return b"\r\n".join(fields) + b"\r\n"
