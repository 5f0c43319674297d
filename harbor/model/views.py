"""What the control surfaces ask for and show. ``as_json`` is the shape of the API's replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harbor.model.event import Event
from harbor.model.policy import Policy
from harbor.model.service import BackendView, Exposure, Protocol, Service, Status, Tls
from harbor.model.traffic import ServiceCounters, SessionView


@dataclass(frozen=True, slots=True)
class ServiceWish:
    """What somebody who asks for a port may say; None leaves the choice to the node."""

    name: str
    protocol: Protocol | None = None
    port: int | None = None
    exposure: Exposure | None = None
    tls: Tls | None = None
    plan: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    tls_rules: Mapping[str, Any] = field(default_factory=dict)
    backend_tls: Mapping[str, Any] | None = None
    server_names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service with its present state. ``reason`` is set while it is degraded; ``listen`` is the bound address.

    ``apps`` are those that are bound to it, by name. ``tls_rules`` are None unless the node ends its TLS,
    ``backend_tls`` is None unless TLS is spoken to its backends. ``warnings`` say what is not as it should be
    though the port is open.
    """

    service: Service
    status: Status
    reason: str | None
    listen: str
    policy: Policy
    backends: tuple[BackendView, ...]
    counters: ServiceCounters
    apps: tuple[str, ...] = ()
    tls_rules: Mapping[str, Any] | None = None
    backend_tls: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        service = self.service
        body: dict[str, Any] = {
            "id": service.id,
            "name": service.name,
            "protocol": service.protocol.value,
            "port": service.port,
            "int_port": service.int_port,
            "exposure": service.exposure.value,
            "tls": service.tls.value,
            "plan": service.plan,
            "listen": self.listen,
            "status": self.status.value,
            "warnings": list(self.warnings),
            "created": service.created,
            "policy": self.policy.as_json(),
            "backends": [backend_json(backend) for backend in self.backends],
            "bindings": list(self.apps),
            "sessions": {"active": self.counters.active, "opened": self.counters.opened},
            "bytes": {"in": self.counters.bytes_in, "out": self.counters.bytes_out},
            "closed": {reason.value: count for reason, count in sorted(self.counters.closed.items())},
            "dropped": {drop.value: count for drop, count in sorted(self.counters.dropped.items())},
        }
        if self.reason is not None:
            body["reason"] = self.reason
        if self.tls_rules is not None:
            body["tls_rules"] = dict(self.tls_rules)
        if self.backend_tls is not None:
            body["backend_tls"] = dict(self.backend_tls)
        if service.can_share:
            body["server_names"] = list(service.server_names)
        if service.expires_at is not None:
            body["expires_at"] = service.expires_at
        return body


@dataclass(frozen=True, slots=True)
class PortsView:
    """The node's ports: how many, and what each port that is not free is doing."""

    ranges: tuple[str, ...]
    total: int
    free: int
    used: Mapping[int, Sequence[str]]  # port -> the names of the services that have it
    resting: Mapping[int, float]  # port -> seconds until it may be leased again
    reserved: tuple[int, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "ranges": list(self.ranges),
            "total": self.total,
            "free": self.free,
            "used": [{"port": port, "service": name} for port in sorted(self.used) for name in self.used[port]],
            "quarantined": [{"port": port, "seconds": round(left, 1)} for port, left in sorted(self.resting.items())],
            "reserved": list(self.reserved),
            "warnings": list(self.warnings),
        }


def all_down(protocol: Protocol) -> str:
    """What it means that no backend of a service is up."""
    where = {
        Protocol.TCP: "to all of them",
        Protocol.UDP: "to the first of them",
        Protocol.BOTH: "to all of them, datagrams to the first",
    }
    return f"all backends are down; traffic goes {where[protocol]}"


def backend_json(backend: BackendView) -> dict[str, Any]:
    """A backend as the API shows it; optional members are absent, not null."""
    body: dict[str, Any] = {
        "id": backend.id,
        "host": backend.host,
        "port": backend.port,
        "state": backend.state.value,
        "since": backend.since,
        "active": backend.active,
    }
    optional = {
        "ttl": backend.ttl,
        "expires_in": backend.expires_in,
        "instance": backend.instance,
        "weight": None if backend.weight == 1 else backend.weight,
        "last_failure": backend.last_failure,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def session_json(session: SessionView, service_name: str) -> dict[str, Any]:
    """A live session as the API shows it."""
    body: dict[str, Any] = {
        "id": session.id,
        "service": service_name,
        "protocol": session.protocol.value,
        "client": str(session.client),
        "backend": session.backend_id,
        "backend_address": None if session.backend is None else str(session.backend),
        "state": session.state,
        "started": session.started,
        "age": round(session.age, 3),
        "bytes_in": session.bytes_in,
        "bytes_out": session.bytes_out,
    }
    if session.server_name is not None:
        body["server_name"] = session.server_name
    if session.protocol is Protocol.UDP:
        body |= {"datagrams_in": session.datagrams_in, "datagrams_out": session.datagrams_out}
    return body


def whois_json(local: str, session: SessionView, service_name: str) -> dict[str, Any]:
    """Whose connection the backend sees that has ``local`` as its peer."""
    return {
        "local": local,
        "protocol": session.protocol.value,
        "service": service_name,
        "client": str(session.client),
        "session": session.id,
        "since": session.started,
        "backend": session.backend_id,
        "backend_address": None if session.backend is None else str(session.backend),
    }


def event_json(event: Event) -> dict[str, Any]:
    """An entry of the event feed as the API shows it."""
    return {
        "id": event.id,
        "time": event.time,
        "kind": event.kind,
        "actor": event.actor,
        "service": event.service,
        "message": event.message,
        "details": dict(event.details),
    }
