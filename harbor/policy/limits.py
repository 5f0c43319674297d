"""What a service asks of its clients before they get a session, and of their datagrams after.

A client is known by its source: an IPv4 address, or the /64 of an IPv6 one, since that is the least that one customer
of a network gets (RFC 6177), and who has it has 2**64 addresses to send from. Link-local addresses are all in one /64
and stand for themselves.

All of it is off unless the policy sets it, and then there is no object that could be asked.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import Final, Generic, TypeVar

from harbor.model import Drop, Policy, Reason
from harbor.model.limits import ByteRate, Rate
from harbor.policy.access import Access, number_of
from harbor.policy.rates import Buckets

S = TypeVar("S", bound=Hashable)

NETWORK_BITS: Final = 64  # of an IPv6 address, which tell customers apart
LINK_LOCAL: Final = 0xFE80_0000_0000_0000
LOOKED_AT: Final = 64  # sessions of one source, when one of them has to give way: a bound on what a flood costs


def source_of(host: str) -> Hashable:
    """By what a client with this numeric address is known."""
    if ":" not in host:
        return host
    network = number_of(host) >> NETWORK_BITS
    return host if network == LINK_LOCAL else network


class Gate(Generic[S]):
    """Who gets a session. It counts the sessions of each source only where there is a limit of them."""

    __slots__ = ("_access", "_buckets", "_by_source", "_most", "_total")

    def __init__(self, policy: Policy, former: Gate[S] | None = None) -> None:
        """``former``: the gate whose networks and rates go on where they did not change."""
        self._access: Access | None = _access(policy, None if former is None else former._access)
        self._total: Buckets | None = _buckets(policy.sessions_per_second, None if former is None else former._total)
        self._buckets: Buckets | None = _buckets(
            policy.sessions_per_second_per_source, None if former is None else former._buckets
        )
        self._most = policy.max_sessions_per_source
        self._by_source: dict[Hashable, dict[S, None]] = {}  # of each source the oldest session first

    @property
    def counts(self) -> bool:
        """Whether it wants to know which sessions there are."""
        return self._most > 0

    def denies(self, host: str) -> bool:
        """Whether this address may not come in at all."""
        return self._access is not None and not self._access.admits(host)

    def refuses(self, host: str, now: float, gives_way: bool = False) -> Reason | None:
        """Why a client may have no new session now; None if it may, and then it is counted in the rates.

        ``gives_way``: whether another session of a source that has too many can make room.
        """
        if self.denies(host):
            return Reason.ACL_DENIED
        if not gives_way and self.is_full(host):
            return Reason.LIMIT_SOURCE
        if self._buckets is not None and not self._buckets.take(source_of(host), now):
            return Reason.LIMIT_RATE
        if self._total is not None and not self._total.take(None, now):
            return Reason.LIMIT_RATE
        return None

    def is_full(self, host: str) -> bool:
        """Whether the source of this address has as many sessions as it may have."""
        return self._most > 0 and len(self._by_source.get(source_of(host), ())) >= self._most

    def oldest(self, host: str) -> list[S]:
        """The oldest sessions of the source of this address, as many as are worth a look; the oldest first."""
        return list(islice(self._by_source.get(source_of(host), ()), LOOKED_AT))

    def take_in(self, host: str, session: S) -> None:
        """A session of this address has begun."""
        if self._most:
            self._by_source.setdefault(source_of(host), {})[session] = None

    def let_go(self, host: str, session: S) -> None:
        """A session of this address has ended."""
        if self._most:
            source = source_of(host)
            sessions = self._by_source.get(source)
            if sessions is not None:
                sessions.pop(session, None)
                if not sessions:
                    del self._by_source[source]


class Pace:
    """How much each source may send over UDP."""

    __slots__ = ("_bytes", "_packets")

    def __init__(self, policy: Policy, former: Pace | None = None) -> None:
        """``former``: the one whose rates go on where they did not change."""
        self._packets: Buckets | None = _buckets(
            policy.packets_per_second_per_source, None if former is None else former._packets
        )
        self._bytes: Buckets | None = _buckets(
            policy.bytes_per_second_per_source, None if former is None else former._bytes
        )

    def refuses(self, host: str, size: int, now: float) -> Drop | None:
        """Why a datagram of this address and of so many bytes is dropped; None if it passes."""
        source = source_of(host)
        if self._packets is not None and not self._packets.take(source, now):
            return Drop.LIMIT_PACKETS
        if self._bytes is not None and not self._bytes.take(source, now, size):
            return Drop.LIMIT_BYTES
        return None


def gate_of(policy: Policy, former: Gate[S] | None) -> Gate[S] | None:
    """What the policy asks of new clients; None if nothing. Who has a session already is the caller's to take in."""
    asks = (
        policy.allow
        or policy.deny
        or policy.max_sessions_per_source
        or policy.sessions_per_second
        or policy.sessions_per_second_per_source
    )
    return Gate(policy, former) if asks else None


def pace_of(policy: Policy, former: Pace | None) -> Pace | None:
    """What the policy asks of datagrams; None if nothing."""
    asks = policy.packets_per_second_per_source or policy.bytes_per_second_per_source
    return Pace(policy, former) if asks else None


def _access(policy: Policy, former: Access | None) -> Access | None:
    if not (policy.allow or policy.deny):
        return None
    if former is not None and (former.allow, former.deny) == (policy.allow, policy.deny):
        return former
    return Access(policy.allow, policy.deny)


def _buckets(rate: Rate | ByteRate | None, former: Buckets | None) -> Buckets | None:
    if rate is None:
        return None
    if former is not None and (former.rate, former.burst) == (rate.rate, rate.at_once):
        return former
    return Buckets(rate.rate, rate.at_once)
