"""Who may use a service, by address: networks that are allowed, networks that are denied.

Rule 1: who is in a denied network is refused, whatever is allowed.
Rule 2: where networks are allowed, who is in none of them is refused.

A look-up costs as much as there are lengths of prefixes, not as there are networks: for each length there is a set
of prefixes. Networks of IPv4 in IPv6 (``::ffff:0:0/96``) are those of IPv4, since that is how clients are known.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

IPV4_BITS: Final = 32
IPV6_BITS: Final = 128
MAPPED: Final = 0xFFFF  # what the upper 96 bits of an IPv4 address in IPv6 are


def number_of(host: str) -> int:
    """A numeric address as a number; the interface of a link-local one is left out."""
    if ":" in host:
        return int(ipaddress.IPv6Address(host.partition("%")[0]))
    a, b, c, d = host.split(".")
    return int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)


class Prefixes:
    """A set of networks that knows in which of them an address is, of one family."""

    __slots__ = ("_by_shift",)

    def __init__(self, bits: int, networks: Iterable[tuple[int, int]]) -> None:
        """``networks``: pairs of the first address, as a number, and the length of the prefix."""
        by_shift: dict[int, set[int]] = {}
        for first, length in networks:
            by_shift.setdefault(bits - length, set()).add(first >> (bits - length))
        self._by_shift = sorted(by_shift.items(), reverse=True)  # the widest first

    def has(self, address: int) -> bool:
        """Whether the address is in one of the networks."""
        return any(address >> shift in prefixes for shift, prefixes in self._by_shift)


class Access:
    """The rules of one service. Networks are texts that were checked, as ``Policy`` has them."""

    __slots__ = ("_allowed4", "_allowed6", "_allows_all", "_denied4", "_denied6", "allow", "deny")

    def __init__(self, allow: tuple[str, ...], deny: tuple[str, ...]) -> None:
        self.allow, self.deny = allow, deny
        self._allowed4, self._allowed6 = _by_family(allow)
        self._denied4, self._denied6 = _by_family(deny)
        self._allows_all = not allow

    def admits(self, host: str) -> bool:
        """Whether a client with this numeric address may come in."""
        address = number_of(host)
        if ":" in host:
            return not self._denied6.has(address) and (self._allows_all or self._allowed6.has(address))
        return not self._denied4.has(address) and (self._allows_all or self._allowed4.has(address))


def _by_family(networks: Iterable[str]) -> tuple[Prefixes, Prefixes]:
    four: list[tuple[int, int]] = []
    six: list[tuple[int, int]] = []
    for text in networks:
        host, _, length = text.partition("/")
        first = number_of(host)
        if ":" not in host:
            four.append((first, int(length or IPV4_BITS)))
            continue
        bits = int(length or IPV6_BITS)
        if bits >= IPV6_BITS - IPV4_BITS and first >> IPV4_BITS == MAPPED:
            four.append((first & 0xFFFF_FFFF, bits - (IPV6_BITS - IPV4_BITS)))
        else:
            six.append((first, bits))
    return Prefixes(IPV4_BITS, four), Prefixes(IPV6_BITS, six)
