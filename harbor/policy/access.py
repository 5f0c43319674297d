"""Sets of networks; and who may use a service, by networks that are allowed and networks that are denied.

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


class NetworkSet:
    """Networks of both families, given as texts that were checked, as ``Policy`` has them."""

    __slots__ = ("_four", "_six")

    def __init__(self, networks: Iterable[str]) -> None:
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
        self._four, self._six = Prefixes(IPV4_BITS, four), Prefixes(IPV6_BITS, six)

    def has(self, host: str) -> bool:
        """Whether this numeric address is in one of them."""
        return (self._six if ":" in host else self._four).has(number_of(host))


class Access:
    """The rules of one service."""

    __slots__ = ("_allowed", "_denied", "allow", "deny")

    def __init__(self, allow: tuple[str, ...], deny: tuple[str, ...]) -> None:
        self.allow, self.deny = allow, deny
        self._allowed = NetworkSet(allow) if allow else None
        self._denied = NetworkSet(deny) if deny else None

    def admits(self, host: str) -> bool:
        """Whether a client with this numeric address may come in."""
        if self._denied is not None and self._denied.has(host):
            return False
        return self._allowed is None or self._allowed.has(host)
