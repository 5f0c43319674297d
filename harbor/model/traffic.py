"""Values that cross between node and data plane; plain, so that relays may live in another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harbor.model.policy import Policy
from harbor.model.reason import Drop, Reason
from harbor.model.service import Address, Protocol
from harbor.model.tls import BackendTls, TlsTerms


@dataclass(frozen=True, slots=True)
class Opening:
    """A listener to bind: where, what, and by which policy it relays."""

    service_id: str
    name: str
    protocol: Protocol
    host: str
    port: int
    policy: Policy
    tls: TlsTerms | None = None
    http: bool = False  # whether what passes is read as HTTP, unless the policy says
    backend_tls: BackendTls | None = None  # how TLS is spoken to the backends, if it is
    server_names: tuple[str, ...] | None = None  # which it takes on a port that may be shared; None: it may not be


@dataclass(frozen=True, slots=True)
class Route:
    """One backend that may receive traffic, at the address to dial (already admitted), in queue order.

    ``since`` is when it came up or went down, by the monotonic clock. ``host`` is the name that it registered with,
    and None for an address.
    """

    backend_id: str
    address: Address
    up: bool = True
    weight: int = 1
    since: float = 0.0
    host: str | None = None


@dataclass(frozen=True, slots=True)
class SessionView:
    """One live session. ``started`` is Unix time, ``age``/``idle`` seconds, ``bytes_in`` from the client."""

    id: str
    service_id: str
    protocol: Protocol
    client: Address
    backend_id: str | None
    backend: Address | None
    state: str
    started: float
    age: float
    bytes_in: int
    bytes_out: int
    datagrams_in: int = 0
    datagrams_out: int = 0
    server_name: str | None = None  # which the client asked for, where that was heeded


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Which sessions are meant; None matches all. ``client`` is a network in CIDR notation."""

    session_id: str | None = None
    service_id: str | None = None
    backend_id: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceCounters:
    """Totals of one service since the node started."""

    opened: int = 0
    active: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    datagrams_in: int = 0
    datagrams_out: int = 0
    closed: Mapping[Reason, int] = field(default_factory=dict)
    dropped: Mapping[Drop, int] = field(default_factory=dict)
    active_by_backend: Mapping[str, int] = field(default_factory=dict)
