"""A node in memory: the interface that the control surfaces use, over the real policy, without sockets or disk."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from harbor.config import Config
from harbor.errors import NotFound, Refused
from harbor.model import (
    Address,
    Backend,
    BackendView,
    Binding,
    CertificateView,
    Event,
    Exposure,
    Policy,
    PortsView,
    Reason,
    Service,
    ServiceCounters,
    ServiceView,
    ServiceWish,
    SessionQuery,
    SessionView,
    Status,
)
from harbor.policy.naming import check_name, protocol_for, shown, tls_for
from harbor.policy.ports import InternalPorts, Ports
from harbor.policy.registry import Registry


class FakeEvents:
    """The newest events; those who follow wait on one condition."""

    def __init__(self) -> None:
        self.kept: list[Event] = []
        self._news = asyncio.Event()

    def add(self, kind: str, actor: str, message: str, service: str | None = None, **details: Any) -> None:
        event = Event(len(self.kept) + 1, time.time(), kind, actor, message, service, details)
        self.kept.append(event)
        self._news.set()
        self._news = asyncio.Event()

    def recent(self, after: int | None, limit: int) -> list[Event]:
        if after is None:
            return self.kept[-limit:]
        return [event for event in self.kept if event.id > after][:limit]

    async def follow(self, after: int | None) -> AsyncIterator[Event]:
        last = len(self.kept) if after is None else after
        while True:
            news = self._news
            for event in self.recent(last, 1000):
                last = event.id
                yield event
            await news.wait()


class FakeNode:
    """Obeys ``harbor.node.Node``; tests may set ``sessions_``, ``locals_``, ``problems_`` and ``counters`` directly."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.events = FakeEvents()
        self.leased: list[int] = []  # every port that was ever leased, in order
        self.released: list[int] = []
        self.sessions_: dict[str, tuple[SessionView, str]] = {}
        self.locals_: dict[str, Address] = {}  # what backends see, by session
        self.problems_: list[str] = []
        self.certificates_: list[CertificateView] = []
        self.degraded: dict[str, str] = {}  # service name -> reason
        self.counters = ServiceCounters(closed={Reason.KILLED: 1})
        self._ports = Ports(config.ports.spans, config.ports.reserved, config.ports.quarantine)
        self._internal = InternalPorts()
        self._registry = Registry()
        self._replies: dict[str, tuple[str, dict[str, Any]]] = {}
        self._lock = asyncio.Lock()

    async def create_service(
        self, wish: ServiceWish, *, actor: str, key: str | None = None, fingerprint: str = ""
    ) -> tuple[dict[str, Any], bool]:
        async with self._lock:
            if key is not None and key in self._replies:
                known, reply = self._replies[key]
                if known != fingerprint:
                    raise Refused(
                        "this Idempotency-Key was used for another request", code="idempotency_key_reused", status=422
                    )
                return reply, False
            check_name(wish.name)
            now = time.monotonic()
            port = (
                next(self._ports.candidates(random.Random(), now))
                if wish.port is None
                else self._ports.check_pin(wish.port, now)
            )
            protocol = protocol_for(wish.name, wish.plan, wish.protocol)
            service = Service(
                id=f"service-{len(self.leased) + 1}",
                name=wish.name,
                protocol=protocol,
                port=port,
                int_port=self._internal.take(),
                exposure=wish.exposure or Exposure.PRIVATE,
                tls=tls_for(wish.name, wish.plan, wish.tls, protocol),
                plan=wish.plan,
                created=time.time(),
                overrides=wish.overrides,
            )
            self._registry.add(service, self.config.defaults.policy().with_overrides(wish.overrides))
            await asyncio.sleep(0)  # where the real one waits for the disk
            self._ports.lease(port)
            self.leased.append(port)
            self.events.add("service.created", actor, f"{wish.name} has port {port}", wish.name, port=port)
            reply = self.service(wish.name).as_json()
            if key is not None:
                self._replies[key] = (fingerprint, reply)
            return reply, True

    async def update_service(self, ref: str, changes: Mapping[str, Any], *, actor: str) -> ServiceView:
        old = self._registry.find(ref)
        overrides = {name: value for name, value in {**old.overrides, **changes}.items() if value is not None}
        new = dataclasses.replace(old, overrides=overrides)
        self._registry.replace(new, self.config.defaults.policy().with_overrides(overrides), time.monotonic())
        self.events.add("service.updated", actor, f"{old.name} changed", old.name)
        return self.service(old.id)

    async def delete_service(self, ref: str, *, actor: str, force: bool = False) -> None:
        service = self._registry.remove(self._registry.find(ref).id)
        self._ports.release(service.port, time.monotonic())
        self._internal.release(service.int_port)
        self.released.append(service.port)
        self.events.add("service.deleted", actor, f"{service.name} is gone", service.name)

    def leases(self) -> list[tuple[Service, Policy]]:
        return [(service, self._registry.policy(service.id)) for service in self._registry.services()]

    def services(self) -> list[ServiceView]:
        return [self.service(service.id) for service in self._registry.services()]

    def service(self, ref: str) -> ServiceView:
        service = self._registry.find(ref)
        reason = self.degraded.get(service.name)
        return ServiceView(
            service=service,
            status=Status.READY if reason is None else Status.DEGRADED,
            reason=reason,
            listen="127.0.0.1",
            policy=self._registry.policy(service.id),
            backends=self._registry.backends(service.id, time.monotonic(), time.time(), {}),
            counters=self.counters,
        )

    async def put_backend(
        self,
        ref: str,
        backend_id: str,
        *,
        host: str,
        port: int,
        ttl: float | None = None,
        instance: str | None = None,
        weight: int | None = None,
        actor: str,
    ) -> tuple[BackendView, bool]:
        service = self._registry.find(ref)
        check_name(backend_id, "backend id")
        if not ipaddress.ip_address(host).is_loopback:
            raise Refused(f"{host} is not in backends.allow", code="backend_not_allowed", status=403)
        backend = Backend(backend_id, host, port, ttl, instance, weight or 1)
        done = self._registry.register(service.id, backend, None, Address(host, port), time.monotonic())
        if done.created:
            self.events.add("backend.registered", actor, f"{backend_id} at {host}:{port}", service.name)
        return self._backend(service, backend_id), done.created

    async def remove_backend(self, ref: str, backend_id: str, *, actor: str) -> None:
        service = self._registry.find(ref)
        self._registry.deregister(service.id, backend_id, time.monotonic())
        self._registry.idle(service.id, backend_id)

    async def drain_backend(self, ref: str, backend_id: str, *, actor: str) -> BackendView:
        service = self._registry.find(ref)
        self._registry.drain(service.id, backend_id, time.monotonic())
        return self._backend(service, backend_id)

    def binding_of_token(self, token: str) -> Binding | None:
        return None

    def certificates(self) -> list[CertificateView]:
        return self.certificates_

    def sessions(self, query: SessionQuery) -> list[tuple[SessionView, str]]:
        wanted = None if query.service_id is None else self._registry.find(query.service_id).name
        network = None if query.client is None else ipaddress.ip_network(query.client)
        return [
            (session, name)
            for session, name in self.sessions_.values()
            if wanted in (None, name)
            and query.session_id in (None, session.id)
            and query.backend_id in (None, session.backend_id)
            and (network is None or ipaddress.ip_address(session.client.host) in network)
        ]

    async def whois(self, local: Address, query: SessionQuery) -> list[tuple[SessionView, str]]:
        return [(session, name) for session, name in self.sessions(query) if self.locals_.get(session.id) == local]

    def kill(self, query: SessionQuery, *, actor: str) -> int:
        found = self.sessions(query)
        for session, _ in found:
            del self.sessions_[session.id]
        return len(found)

    def ports(self) -> PortsView:
        now = time.monotonic()
        return PortsView(
            ranges=self.config.ports.ranges,
            total=self._ports.total,
            free=self._ports.free(now),
            used={service.port: [service.name] for service in self._registry.services()},
            resting=self._ports.resting(now),
            reserved=self._ports.reserved,
            warnings=(),
        )

    def describe(self) -> dict[str, Any]:
        return {"id": self.config.node.id, "host": self.config.node.host, "problems": self.problems_}

    def remarks(self) -> list[str]:
        return []

    def strain(self) -> dict[str, float]:
        return {"harbor_event_loop_lag_seconds": 0.25}

    def problems(self) -> list[str]:
        return self.problems_

    def _backend(self, service: Service, backend_id: str) -> BackendView:
        for backend in self.service(service.id).backends:
            if backend.id == backend_id:
                return backend
        raise NotFound(f"service {service.name} has no backend {shown(backend_id)}", code="backend_not_found")
