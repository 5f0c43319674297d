"""What is leased and who serves it: service and backend, values that are valid once built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

MOST_WEIGHT: Final = 256  # of a backend, as HAProxy: the proportion matters, and nobody needs a finer one


class Protocol(StrEnum):
    """What a service forwards; ``both`` is TCP and UDP on one port number."""

    TCP = "tcp"
    UDP = "udp"
    BOTH = "both"

    @property
    def has_tcp(self) -> bool:
        return self is not Protocol.UDP

    @property
    def has_udp(self) -> bool:
        return self is not Protocol.TCP


class Exposure(StrEnum):
    """Which of the node's listen addresses a service uses."""

    PUBLIC = "public"
    PRIVATE = "private"


class Tls(StrEnum):
    """Who ends TLS on a service's port."""

    OFF = "off"
    NODE = "node"
    PASSTHROUGH = "passthrough"


class Status(StrEnum):
    """Whether the port of a service is open."""

    READY = "ready"
    DEGRADED = "degraded"


class State(StrEnum):
    """Where a backend is in its life; see ``harbor.policy.lifecycle`` for the table."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    DRAINING = "draining"
    GONE = "gone"


class Address(NamedTuple):
    """A numeric IP address (as ``ipaddress`` prints it) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Service:
    """One leased port. ``created`` is Unix time. ``overrides`` holds only the policy fields that were set on it, and
    ``tls_rules`` what was set of TLS (``harbor.model.tls.TLS_SETTINGS``). ``backend_tls`` is what was set of TLS to its
    backends (``BACKEND_SETTINGS``), and None if none is spoken.

    ``origin`` is what a platform asked with: at least ``platform`` and ``instance_id``, the platform's own id for it.
    ``expires_at`` is the Unix time at which it is deleted.
    ``server_names`` are those that it takes on a port which it ``can_share`` with others.
    """

    id: str
    name: str
    protocol: Protocol
    port: int
    int_port: int
    exposure: Exposure
    tls: Tls = Tls.OFF
    plan: str | None = None
    created: float = 0.0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    tls_rules: Mapping[str, Any] = field(default_factory=dict)
    backend_tls: Mapping[str, Any] | None = None
    server_names: tuple[str, ...] = ()
    expires_at: float | None = None

    @property
    def can_share(self) -> bool:
        """Whether its port may be that of others too. What a platform asks for shares with nobody: its tenants are
        strangers to one another.
        """
        return self.tls is Tls.PASSTHROUGH and self.protocol is Protocol.TCP and not self.origin


@dataclass(frozen=True, slots=True)
class Backend:
    """One app instance as it registered. ``host`` is a numeric address or a DNS name; ``ttl`` in seconds or None.

    ``weight`` says how much of the new TCP sessions it gets, in proportion to those of the others.
    """

    id: str
    host: str
    port: int
    ttl: float | None = None
    instance: str | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class BackendView:
    """A backend as the API shows it, in queue order. ``since`` is Unix time; ``expires_in`` seconds."""

    id: str
    host: str
    port: int
    state: State
    since: float
    active: int
    ttl: float | None = None
    expires_in: float | None = None
    instance: str | None = None
    weight: int = 1
    last_failure: str | None = None
