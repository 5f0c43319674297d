"""Who may be a backend.

Whoever may register backends decides where this node connects to, so Harbor asks of every address that it
is about to dial, not of the name it came from, whether that may be one:

1. Never the API of this node, at whatever address it is reached: a forwarded port would expose it.
2. Never an open listener of this node: sessions would run in circles.
3. Special addresses (loopback, link-local, cloud metadata ...) only by an entry of ``backends.allow`` that means
   them, that is, one that lies within the special range. ``0.0.0.0/0`` opens the internet, not the loopback.
4. All others only if an entry covers them.

A refusal is 403: the request is well-formed and no other state of the node would make it right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from harbor.errors import Invalid, Refused
from harbor.model import Address
from harbor.policy.naming import shown

IP = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# What ipaddress calls is_reserved or is_private differs between Python versions, so the ranges stand here.
# The narrow ones come first: a range is found by its first match.
SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "unspecified"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),  # cloud metadata at 169.254.169.254
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),  # and broadcast
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fd00:ec2::254/128", "cloud metadata"),  # Amazon's; a unique local address like any other but for this
        ("fd20:ce::254/128", "cloud metadata"),  # Google's
        ("fe80::/10", "link-local"),
        ("fec0::/10", "reserved"),  # site-local, RFC 3879
        ("ff00::/8", "multicast"),
        # These carry an IPv4 address that a translator or tunnel would connect to, past every rule above.
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/32", "Teredo"),
        ("2002::/16", "6to4"),
    )
)
# The underscore is no part of hostnames, but container networks resolve names that have one.
LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
# The C library reads these as addresses: 2130706433, 0177.0.0.1, 127.1 and 0x7f.1 are all 127.0.0.1.
NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
LONGEST_NAME: Final = 253  # RFC 1035 §2.3.4, without the final dot


class Admission:
    """The rule of one node. Knows no socket: who it is comes in as values that may change under it."""

    __slots__ = ("_allow", "_api", "_is_local", "_listeners")

    def __init__(
        self,
        allow: Iterable[Network],
        *,
        api: Container[Address] = (),
        listeners: Container[Address] = (),
        is_local: Callable[[IP], bool] = lambda address: False,
    ) -> None:
        """``api`` and ``listeners`` are where this node listens, with ``0.0.0.0`` and ``::`` for every address.

        ``is_local`` says whether an address belongs to this host; loopback need not be asked.
        """
        self._allow = tuple(allow)
        self._api = api
        self._listeners = listeners
        self._is_local = is_local

    def check(self, address: Address) -> None:
        """Return if this may be dialled.

        Errors: ``Refused`` with ``backend_is_api``, ``backend_is_harbor`` or ``backend_not_allowed``; ``Invalid``
        (``host_invalid``) if the host is not numeric.
        """
        ip = parse_host(address.host)
        if ip is None:
            raise Invalid(f"{shown(address.host)} is a name; admission is of addresses", code="host_invalid")
        if self._is_at(self._api, ip, address.port):
            raise _refused(f"{address} is the API of this node, which is never a backend", "backend_is_api")
        if self._is_at(self._listeners, ip, address.port):
            raise _refused(
                f"{address} is a port of this node: its sessions would run in circles; register the app's own address",
                "backend_is_harbor",
            )
        special = next(((network, kind) for network, kind in SPECIAL if ip in network), None)
        entries = [entry for entry in self._allow if ip in entry]
        if special is None:
            if not entries:
                raise _refused(
                    f"{address} is outside the networks that may have backends; "
                    f"if it should be one, add a network with {ip} to backends.allow",
                )
        elif not any(_is_within(entry, special[0]) for entry in entries):
            network, kind = special
            raise _refused(
                f"{address} is {kind}, which is no backend unless listed; "
                f"if it should be one, add {network} or a part of it with {ip} to backends.allow",
            )

    def _is_at(self, places: Container[Address], ip: IP, port: int) -> bool:
        """Whether dialling this reaches one of these places."""
        if ip.is_unspecified:  # the kernel connects to the loopback address instead
            ip = ip_address("127.0.0.1" if ip.version == 4 else "::1")
        if Address(str(ip), port) in places:
            return True
        wildcards = ("0.0.0.0", "::") if ip.version == 4 else ("::",)
        everywhere = any(Address(host, port) in places for host in wildcards)
        return everywhere and (ip.is_loopback or self._is_local(ip))


def parse_host(text: str) -> IP | None:
    """The address that the text is, or None if it is a name to resolve; a v4-mapped address is its IPv4 address.

    Errors: ``Invalid`` (``host_invalid``) for what is neither, and for numbers that only a C library takes for
    an address.
    """
    try:
        ip = ip_address(text)
    except ValueError:
        ip = None
    if ip is None:
        _check_hostname(text)
        return None
    if "%" in text:
        raise _host_invalid(text, "has a scope id, which means something on one host only")
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _check_hostname(text: str) -> None:
    name = text.removesuffix(".")
    if len(name) > LONGEST_NAME:
        raise _host_invalid(text, f"is longer than {LONGEST_NAME} characters")
    labels = name.split(".")
    if not all(map(LABEL.fullmatch, labels)):
        raise _host_invalid(text, "is neither an IP address nor a host name")
    if NUMBER.fullmatch(labels[-1]):
        raise _host_invalid(text, "is a number in no form that IP addresses are written in; write 127.0.0.1 or ::1")


def _is_within(entry: Network, network: Network) -> bool:
    # Both hold one address in common, so the one with the longer prefix is within the other.
    return entry.prefixlen >= network.prefixlen


def _refused(message: str, code: str = "backend_not_allowed") -> Refused:
    return Refused(message, code=code, status=403)


def _host_invalid(text: str, why: str) -> Invalid:
    return Invalid(f"host {shown(text)} {why}", code="host_invalid")
