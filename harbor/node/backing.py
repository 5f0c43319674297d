"""Backends register, renew, drain and leave; and what follows from that, or from time, is carried out here."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import Any, Final

from harbor.dataplane.sockets import is_local
from harbor.errors import Invalid, NotFound, Refused
from harbor.model import Address, Backend, State
from harbor.model.service import MOST_WEIGHT
from harbor.model.views import all_down
from harbor.node.apps import check_actor
from harbor.node.checking import Checking
from harbor.node.names import Names
from harbor.node.parts import NODE, Parts
from harbor.policy.admission import parse_host
from harbor.policy.effects import (
    AllDown,
    CheckChanged,
    Effect,
    Expired,
    Gone,
    Moved,
    Promoted,
    Release,
    RoutesChanged,
    StateChanged,
)
from harbor.policy.naming import check_name, shown
from harbor.policy.restraint import Restraint
from harbor.sources.dns import Addresses
from harbor.store import RemoveBackend, SaveBackend

DRAIN_LOOK: Final = 0.25  # seconds between looks at whether draining backends have become idle
SHORTEST_TTL: Final = 0.1  # seconds; a lease must outlive a round trip and a busy moment
LONGEST_TTL: Final = 7 * 86_400.0  # seconds
LONGEST_INSTANCE: Final = 255  # characters


class Backing:
    """The backends of all services."""

    def __init__(self, parts: Parts, resolver: Addresses) -> None:
        self._parts = parts
        self._names = Names(resolver, parts.admission, self._on_resolved)
        self._checking = Checking(parts, self._on_checked)
        self._restraints: defaultdict[str, Restraint[str]] = defaultdict(Restraint)  # of each service's news
        self._timer: asyncio.TimerHandle | None = None

    async def put(
        self,
        ref: str,
        backend_id: str,
        *,
        host: str,
        port: int,
        ttl: float | None,
        instance: str | None,
        weight: int | None,
        actor: str,
    ) -> bool:
        """Register a backend or renew its lease; returns whether it is new. Without ``weight`` it keeps what it has."""
        parts = self._parts
        backend = _checked(backend_id, host, port, ttl, instance, weight)
        known = parts.registry.find(ref)
        async with parts.locks.hold(known.id):
            check_actor(parts, actor, known.id)
            service = parts.registry.find(known.id)
            before = parts.registry.known(service.id, backend.id)
            if weight is None and before is not None:
                backend = replace(backend, weight=before.weight)
            row = parts.registry.plan(service.id, backend)
            address = position = None
            if row is not None:
                address = await self._address_of(backend)
                position = row.position
                event = parts.feed.draft(
                    "backend.registered",
                    actor,
                    f"{service.name}: backend {backend.id} at {backend.host} port {backend.port}",
                    service.name,
                    backend=backend.id,
                )
                await parts.journal.commit(event, SaveBackend(service.id, position, row.backend, row.draining))
            registered = parts.registry.register(service.id, backend, position, address, time.monotonic())
            self.apply(registered.effects)
            if not registered.renewed:
                self._follow(service.id, backend, address)
            return registered.created

    async def remove(self, ref: str, backend_id: str, actor: str) -> None:
        """Deregister a backend; its sessions end as the removal policy says."""
        parts = self._parts
        known = parts.registry.find(ref)
        async with parts.locks.hold(known.id):
            check_actor(parts, actor, known.id)
            service = parts.registry.find(known.id)
            if parts.registry.known(service.id, backend_id) is None:
                raise _no_backend(service.name, backend_id)
            event = parts.feed.draft(
                "backend.deregistered", actor, f"{service.name}: backend {backend_id}", service.name, backend=backend_id
            )
            await parts.journal.commit(event, RemoveBackend(service.id, backend_id))
            self.apply(parts.registry.deregister(service.id, backend_id, time.monotonic()))

    async def drain(self, ref: str, backend_id: str, actor: str) -> None:
        """Give a backend no new sessions; it goes when its last one ends, or stays while it renews its lease."""
        parts = self._parts
        known = parts.registry.find(ref)
        async with parts.locks.hold(known.id):
            check_actor(parts, actor, known.id)
            service = parts.registry.find(known.id)
            row = parts.registry.row(service.id, backend_id)
            if row is None:
                raise _no_backend(service.name, backend_id)
            if row.draining:
                return
            event = parts.feed.draft(
                "backend.drain", actor, f"{service.name}: backend {backend_id}", service.name, backend=backend_id
            )
            save = SaveBackend(service.id, row.position, row.backend, draining=True)
            await parts.journal.commit(event, save)
            self.apply(parts.registry.drain(service.id, backend_id, time.monotonic()))

    def restore(self, saved: SaveBackend) -> None:
        """Put back a backend at start. One that is not allowed any more gets no traffic, and an event says so."""
        parts = self._parts
        backend = saved.backend
        address: Address | None = None
        numeric = parse_host(backend.host)
        if numeric is not None:
            address = Address(str(numeric), backend.port)
            try:
                parts.admission.check(address)
            except Refused as error:
                address = None
                self._tell("backend.refused", saved.service_id, str(error), backend=backend.id)
        parts.registry.restore(saved.service_id, saved.position, backend, address, saved.draining, time.monotonic())
        self._follow(saved.service_id, backend, None)

    def start(self) -> None:
        """Let time pass for what was put back, and check what is to be checked."""
        for service_id, backend_id in self._parts.registry.checks():
            self._checking.look(service_id, backend_id)
        self._arm()

    def forget_service(self, service_id: str) -> None:
        """The service is no more, and its backends with it."""
        self._names.forget_service(service_id)
        self._checking.forget_service(service_id)
        self._restraints.pop(service_id, None)

    def failed(self, service_id: str, backend_id: str, detail: str) -> None:
        """The data plane found that a backend does not answer."""
        self.apply(self._parts.registry.failed(service_id, backend_id, detail, time.monotonic()))

    def route(self, service_id: str) -> None:
        """Tell the data plane which backends a service has."""
        self._parts.plane.set_backends(service_id, self._parts.registry.routes(service_id))

    def local_ports(self) -> set[int]:
        """The ports on which backends of this machine listen: no service may get one, or it would feed itself."""
        registry = self._parts.registry
        places = {route.address for service in registry.services() for route in registry.routes(service.id)}
        local = {host for host in {address.host for address in places} if is_local(host)}
        return {address.port for address in places if address.host in local}

    def apply(self, effects: tuple[Effect, ...]) -> None:
        """Carry out what the registry decided."""
        for effect in effects:
            self._carry_out(effect)
        self._arm()

    def tick(self) -> None:
        """Let time pass: leases, retries, drains."""
        self._timer = None
        registry, plane = self._parts.registry, self._parts.plane
        now = time.monotonic()
        self.apply(registry.tick(now))
        for service_id, backend_id in registry.draining():
            if not plane.active(service_id).get(backend_id):
                self.apply(registry.idle(service_id, backend_id))

    async def close(self) -> None:
        """Stop watching clock, names and health."""
        if self._timer is not None:
            self._timer.cancel()
        await self._checking.close()
        await self._names.close()

    def _arm(self) -> None:
        registry = self._parts.registry
        now = time.monotonic()
        due = registry.next_deadline()
        delay = None if due is None else max(0.0, due - now)
        if registry.draining():
            delay = DRAIN_LOOK if delay is None else min(delay, DRAIN_LOOK)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay is not None:
            self._timer = asyncio.get_running_loop().call_later(delay, self.tick)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Release(service_id, backend_id, within, keeps_flows):
                self._parts.plane.release(service_id, backend_id, within, keeps_flows)
            case RoutesChanged(service_id):
                self.route(service_id)
            case CheckChanged(service_id, backend_id):
                self._checking.look(service_id, backend_id)
            case Moved(service_id, backend_id) | Expired(service_id, backend_id):
                self._parts.journal.touch(service_id, backend_id)
            case Gone(service_id, backend_id):
                self._parts.journal.touch(service_id, backend_id)
                if self._parts.registry.known(service_id, backend_id) is None:
                    self._names.forget(service_id, backend_id)
                    self._restraints[service_id].forget(backend_id)
            case Promoted(service_id, before, after):
                message = f"{after} takes the datagrams now" + (f", {before} did before" if before else "")
                self._tell_of(after, "backend.promoted", service_id, message, backend=after, before=before)
            case AllDown(service_id):
                message = all_down(self._parts.registry.find(service_id).protocol)
                self._tell_of("", "service.all_down", service_id, message)
            case StateChanged(service_id, backend_id, before, after, why):
                if before is not None and before is not after:
                    message = f"backend {backend_id} was {before.value}: {why}"
                    tell = self._tell if after not in (State.UP, State.DOWN) else partial(self._tell_of, backend_id)
                    tell(f"backend.{after.value}", service_id, message, backend=backend_id)

    def _tell(self, kind: str, service_id: str, message: str, **details: Any) -> None:
        parts = self._parts
        name = parts.registry.find(service_id).name
        parts.journal.note(parts.feed.draft(kind, NODE, f"{name}: {message}", name, **details))

    def _tell_of(self, subject: str, kind: str, service_id: str, message: str, **details: Any) -> None:
        """The same for what may happen again and again to a backend (empty: the service): some of it goes untold."""
        held_back = self._restraints[service_id].ask(subject, time.monotonic())
        if held_back is not None:
            more = f" ({held_back} events before this one were not told)" if held_back else ""
            self._tell(kind, service_id, message + more, **details)

    def _on_checked(self, service_id: str, backend_id: str, failure: str | None) -> None:
        self.apply(self._parts.registry.checked(service_id, backend_id, failure, time.monotonic()))

    def _on_resolved(self, service_id: str, backend_id: str, address: Address) -> None:
        self.apply(self._parts.registry.resolved(service_id, backend_id, address, time.monotonic()))

    def _follow(self, service_id: str, backend: Backend, address: Address | None) -> None:
        if parse_host(backend.host) is None:
            self._names.follow(service_id, backend.id, backend.host, backend.port, address)
        else:
            self._names.forget(service_id, backend.id)

    async def _address_of(self, backend: Backend) -> Address | None:
        """Where to dial the backend, admitted; None while its name has no address."""
        numeric = parse_host(backend.host)
        if numeric is None:
            return await self._names.first_address(backend.host, backend.port)
        address = Address(str(numeric), backend.port)
        self._parts.admission.check(address)
        return address


def _checked(
    backend_id: str, host: str, port: int, ttl: float | None, instance: str | None, weight: int | None
) -> Backend:
    check_name(backend_id, "backend id")
    if isinstance(port, bool) or not 1 <= port <= 65_535:
        raise Invalid(f"port {shown(port)} is not a port; use a number from 1 to 65535", code="port_invalid")
    if ttl is not None and not SHORTEST_TTL <= ttl <= LONGEST_TTL:
        raise Invalid(
            f"ttl {shown(ttl)} is not a lease; use {SHORTEST_TTL:g} to {LONGEST_TTL:g} seconds, or none",
            code="ttl_invalid",
        )
    if instance is not None and not (instance.isprintable() and 0 < len(instance) <= LONGEST_INSTANCE):
        raise Invalid(
            f"instance {shown(instance)} is not valid; use up to {LONGEST_INSTANCE} printable characters",
            code="instance_invalid",
        )
    if weight is not None and not 1 <= weight <= MOST_WEIGHT:
        raise Invalid(f"weight {shown(weight)} is not one; use 1 to {MOST_WEIGHT}", code="weight_invalid")
    parse_host(host)
    return Backend(backend_id, host, port, ttl, instance, weight or 1)


def _no_backend(service: str, backend_id: str) -> NotFound:
    return NotFound(f"service {service} has no backend {shown(backend_id)}", code="backend_not_found")
