"""The node: the only writer of what is leased and who serves it.

Every change goes the same way: *plan* (decide, refuse what is wrong; nothing has happened yet), *bind* (take what the
system may refuse), *commit* (make it durable), *apply* (memory, data plane). ``Leasing`` does that for services
and ``Backing`` for backends; what both share are ``Parts``. Reading is synchronous and touches no disk.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import structlog

from harbor.config import Config
from harbor.dataplane.plane import DataPlane
from harbor.dataplane.sockets import is_local
from harbor.errors import Invalid
from harbor.model import (
    Address,
    BackendView,
    Binding,
    BindingView,
    Opening,
    Policy,
    PortsView,
    Reason,
    Service,
    ServiceView,
    ServiceWish,
    SessionQuery,
    SessionView,
)
from harbor.model.certificate import CertificateView
from harbor.model.views import session_json
from harbor.node.apps import Apps, BindWish
from harbor.node.backing import Backing
from harbor.node.certificates import Certificates
from harbor.node.feed import EventFeed
from harbor.node.journal import Journal
from harbor.node.leasing import Leasing
from harbor.node.lifetimes import is_overdue
from harbor.node.listeners import Listeners
from harbor.node.locks import Locks
from harbor.node.parts import NODE, Parts
from harbor.node.replies import Replies
from harbor.node.views import Views
from harbor.node.watch import Watch
from harbor.policy.admission import Admission
from harbor.policy.bindings import Bindings
from harbor.policy.naming import shown
from harbor.policy.ports import InternalPorts, Ports
from harbor.policy.registry import Registry
from harbor.sources.dns import Addresses, Resolver
from harbor.store import Store

log = structlog.get_logger("harbor.node")

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
LOOK_FOR_IDLE: Final = 0.05  # seconds between looks at whether the last session has ended, while the node stops


class Node:
    """A running node. Made inside a running event loop, ``start`` puts back what the store holds.

    Closing: ``stop(within)`` takes no more sessions, gives those that live so many seconds, and writes what is
    left; the store stays its maker's.

    Errors: what is refused raises a ``HarborError`` with its code, and nothing has changed.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        source_ports: bytes | None = None,
        warnings: tuple[str, ...] = (),
        resolver: Addresses | None = None,
    ) -> None:
        self.config = config
        self.events = EventFeed()
        self.api_addresses: set[Address] = set()  # where this node's own API listens: never a backend
        self.outside: Callable[[], list[str]] = list  # what is wrong with platforms that this node works for
        self._wake_timer: asyncio.TimerHandle | None = None
        self._store = store
        self._hurried = False
        self._ports = Ports(config.ports.spans, config.ports.reserved, config.ports.quarantine)
        self._internal = InternalPorts()
        self._replies = Replies()
        self._plane = DataPlane(
            asyncio.get_running_loop(),
            self,
            source_ports=source_ports,
            session_ended=self._log_session if config.log.level == "debug" else None,
        )
        registry, locks = Registry(), Locks()
        self._parts = Parts(
            config=config,
            defaults=config.defaults.policy(),
            registry=registry,
            bindings=Bindings(),
            plane=self._plane,
            feed=self.events,
            locks=locks,
            journal=Journal(store, self.events, registry, locks),
            admission=Admission(
                config.backends.networks,
                api=self.api_addresses,
                listeners=self._plane.listening,
                is_local=lambda ip: is_local(str(ip)),
            ),
        )
        self._backing = Backing(self._parts, resolver or Resolver())
        self._listeners = Listeners(self._plane, self._ports, self._healed)
        self._certificates = Certificates(self._parts)
        self._parts.terms = self._certificates.shelf.terms
        self._parts.backend_terms = self._certificates.shelf.backend_terms
        self._watch = Watch(self._plane, self.events, self._parts.journal)
        self._views = Views(
            self._parts,
            self._ports,
            self._listeners,
            self._certificates.shelf,
            self._watch,
            lambda: (*warnings, *self.outside()),
        )
        self._apps = Apps(self._parts, self._replies)
        self._leasing = Leasing(
            self._parts,
            self._ports,
            self._internal,
            self._listeners,
            self._replies,
            self._backing,
            self._certificates,
        )

    # Life

    def start(self) -> None:
        """Put back services, backends, bindings and rests as they were stored, and open the ports."""
        snapshot = self._store.load()
        parts, now = self._parts, time.monotonic()
        self.events.restore(snapshot.events)
        self._replies.restore(snapshot.replies)
        for service in snapshot.services:
            if service.can_share and parts.registry.on_port(service.port):
                self._ports.join(service.port)
            else:
                self._ports.adopt(service.port)
            parts.registry.add(service, parts.defaults.with_overrides(service.overrides))
            self._internal.claim(service.int_port)
        for saved in snapshot.backends:
            self._backing.restore(saved)
        self._apps.restore(self._store.key(), snapshot.bindings)
        for port in snapshot.resting:
            self._ports.rest(port, now)
        self._certificates.restore(snapshot.certificates)
        for service in snapshot.services:
            self._leasing.lifetimes.follow(service)
            if is_overdue(service):
                continue
            if self._listeners.try_bind(service, partial(self._opening, service.id)):
                self._serve(service.id)
            else:
                reason = self._listeners.reason(service.id)
                message = f"{service.name}: {reason}"
                parts.journal.note(parts.feed.draft("service.degraded", NODE, message, service.name, port=service.port))
        for warning in self.warnings():
            log.warning("config.warning", detail=warning)
        self._backing.start()
        self._certificates.start()
        self._watch.start()
        self._wake_ports()

    async def stop(self, within: float) -> None:
        """Take no more connections, wait up to ``within`` seconds for those that live, then end them.

        UDP is served to the end and not waited for: a flow loses nothing by being made anew after a restart.
        """
        if self._wake_timer is not None:
            self._wake_timer.cancel()
        self._watch.close()
        self._parts.stopping = True
        if self._parts.under_way:
            await asyncio.gather(*self._parts.under_way, return_exceptions=True)
        self.events.close()
        await self._leasing.lifetimes.close()
        await self._certificates.close()
        await self._listeners.close()
        self._plane.stop_listening()
        end = time.monotonic() + within
        while self._plane.connection_count() and time.monotonic() < end and not self._hurried:  # noqa: ASYNC110 - relays count, they do not call
            await asyncio.sleep(LOOK_FOR_IDLE)
        await self._backing.close()
        self._plane.close()
        await self._parts.journal.close()

    def hurry(self) -> None:
        """Let ``stop`` wait no longer."""
        self._hurried = True

    # Services

    async def create_service(
        self,
        wish: ServiceWish,
        *,
        actor: str,
        key: str | None = None,
        fingerprint: str = "",
        noted: Mapping[str, Any] = NOTHING,
    ) -> tuple[dict[str, Any], bool]:
        """Lease a port; returns the service as JSON, and False if this answers an earlier request again.

        Here and below, ``noted`` is what the event has to tell besides: for whom a platform asked, say.

        Errors: ``name_invalid``, ``service_exists``, ``port_invalid``, ``port_out_of_range``, ``port_leased``,
        ``port_resting``, ``port_reserved``, ``port_taken``, ``ports_exhausted``, ``server_names_invalid``,
        ``server_name_taken``, ``policy_invalid``, ``idempotency_key_reused``, ``store_failed`` ...
        """
        return await self._parts.to_the_end(self._leasing.create(wish, actor, key, fingerprint, noted))

    async def update_service(
        self,
        ref: str,
        changes: Mapping[str, Any],
        *,
        actor: str,
        plan: str | None = None,
        origin: Mapping[str, Any] | None = None,
        noted: Mapping[str, Any] = NOTHING,
    ) -> ServiceView:
        """Change policy fields, with ``tls_rules`` how TLS is ended, with ``backend_tls`` how it is spoken to the
        backends, and with ``server_names`` which it takes on a port that it shares; None means the node's default
        again, no TLS to the backends, no names. Live sessions stay.

        A new ``plan`` or ``origin`` is written down and changes nothing else: protocol and TLS stay what they are.
        """
        change = self._leasing.update(ref, changes, actor, plan, origin, noted)
        return self._views.service(await self._parts.to_the_end(change))

    async def delete_service(
        self, ref: str, *, actor: str, force: bool = False, noted: Mapping[str, Any] = NOTHING
    ) -> None:
        """Give back a port. Errors: ``service_not_found``, ``service_bound`` unless forced, which unbinds its apps."""
        await self._parts.to_the_end(self._leasing.delete(ref, actor, force, noted))

    def services(self) -> list[ServiceView]:
        """All services, by name."""
        return [self._views.service(service) for service in self._parts.registry.services()]

    def service(self, ref: str) -> ServiceView:
        """One service, by name or id. Errors: ``service_not_found``."""
        return self._views.service(self._parts.registry.find(ref))

    def service_id(self, ref: str) -> str:
        """The id of a service that is given by name or id. Errors: ``service_not_found``."""
        return self._parts.registry.find(ref).id

    def credentials(self, ref: str) -> dict[str, Any]:
        """What apps that are bound to a service are given. Errors: ``service_not_found``."""
        return self._apps.credentials(self._parts.registry.find(ref))

    def leases(self) -> list[tuple[Service, Policy]]:
        """All services by name, each with the policy that it has in effect."""
        registry = self._parts.registry
        return [(service, registry.policy(service.id)) for service in registry.services()]

    def find_by_origin(self, platform: str, instance_id: str) -> Service | None:
        """The service that a platform asked for under this id of its own."""
        return self._parts.registry.from_origin(platform, instance_id)

    # Apps

    async def bind_service(
        self,
        ref: str,
        app: str,
        *,
        actor: str,
        binding_id: str | None = None,
        origin: Mapping[str, Any] | None = None,
        key: str | None = None,
        fingerprint: str = "",
        noted: Mapping[str, Any] = NOTHING,
    ) -> tuple[dict[str, Any], bool]:
        """Bind an app to a service; returns the binding with its token as JSON, and False if this answers an earlier
        request again.

        Errors: ``service_not_found``, ``name_invalid``, ``binding_exists``, ``variables_collide``,
        ``idempotency_key_reused``, ``store_failed``.
        """
        wish = BindWish(app, binding_id, origin)
        return await self._parts.to_the_end(self._apps.bind(ref, wish, actor, key, fingerprint, noted))

    async def unbind_service(self, ref: str, app_or_id: str, *, actor: str, noted: Mapping[str, Any] = NOTHING) -> None:
        """Let an app go and revoke its token. Errors: ``service_not_found``, ``binding_not_found``."""
        await self._parts.to_the_end(self._apps.unbind(ref, app_or_id, actor, noted))

    def bindings(self, ref: str) -> list[BindingView]:
        """The bindings of a service, by app. Errors: ``service_not_found``."""
        return [self._apps.view(one) for one in self._parts.bindings.of_service(self._parts.registry.find(ref).id)]

    def binding(self, ref: str, app_or_id: str) -> BindingView:
        """One binding of a service. Errors: ``service_not_found``, ``binding_not_found``."""
        service = self._parts.registry.find(ref)
        return self._apps.view(self._parts.bindings.find(service.id, service.name, app_or_id))

    def find_binding(self, binding_id: str) -> BindingView | None:
        """The binding with this id, of whichever service."""
        binding = self._parts.bindings.get(binding_id)
        return None if binding is None else self._apps.view(binding)

    def app_environment(self, app: str) -> dict[str, str]:
        """What an app finds in its environment. Errors: ``app_not_found`` if it is bound to nothing."""
        return self._apps.environment(app)

    def binding_of_token(self, token: str) -> Binding | None:
        """Whose token this is; None if it is nobody's. Errors: ``token_revoked`` if it was somebody's once."""
        return self._apps.of_token(token)

    # Backends

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
        """Register a backend, or renew its lease; returns it, and whether it is new.

        Errors: ``name_invalid``, ``host_invalid``, ``port_invalid``, ``ttl_invalid``, ``weight_invalid``,
        ``backend_not_allowed``, ``backend_is_api``, ``backend_is_harbor``, ``service_not_found``, ``store_failed``.
        """
        change = self._backing.put(
            ref, backend_id, host=host, port=port, ttl=ttl, instance=instance, weight=weight, actor=actor
        )
        created = await self._parts.to_the_end(change)
        return self._views.backend(ref, backend_id), created

    async def remove_backend(self, ref: str, backend_id: str, *, actor: str) -> None:
        """Deregister a backend. Errors: ``backend_not_found``."""
        await self._parts.to_the_end(self._backing.remove(ref, backend_id, actor))

    async def drain_backend(self, ref: str, backend_id: str, *, actor: str) -> BackendView:
        """Give a backend no new sessions. Errors: ``backend_not_found``."""
        await self._parts.to_the_end(self._backing.drain(ref, backend_id, actor))
        return self._views.backend(ref, backend_id)

    # Certificates

    def certificates(self) -> list[CertificateView]:
        """What services show whose TLS the node ends, by service."""
        return self._certificates.shelf.views(self._parts.registry.services())

    def certificate(self, ref: str) -> CertificateView:
        """What a service shows. Errors: ``service_not_found``, ``certificate_not_found``."""
        return self._certificates.shelf.view(self._parts.registry.find(ref))

    async def put_certificate(
        self, ref: str, certificate: str, key: str, *, actor: str, label: str | None = None
    ) -> CertificateView:
        """Serve this certificate (PEM, with its chain) from the next handshake on, before what lies in ``certs_dir``.
        With a label it is a further one, for the names in it.

        Errors: ``certificate_invalid``, ``key_invalid``, ``key_encrypted``, ``key_mismatch``, ``key_weak``,
        ``chain_broken``, ``certificate_expired``, ``certificate_not_yet_valid``, ``certificate_unfit``,
        ``handshake_failed``, ``tls_off``, ``label_invalid``, ``certificates_exhausted``, ``service_not_found``,
        ``store_failed``; what was there before stays.
        """
        change = self._certificates.put(ref, certificate, key, actor, label)
        return self._certificates.shelf.view(await self._parts.to_the_end(change))

    async def delete_certificate(self, ref: str, *, actor: str, label: str | None = None) -> None:
        """Forget what was uploaded. Errors: ``service_not_found``, ``certificate_not_found``, ``store_failed``."""
        await self._parts.to_the_end(self._certificates.delete(ref, actor, label))

    def look_at_certificates(self) -> None:
        """Look at ``certs_dir`` now, and once more at what was refused there."""
        self._certificates.look_now()

    # Sessions

    def sessions(self, query: SessionQuery) -> list[tuple[SessionView, str]]:
        """The live sessions that match, oldest first, each with its service's name. ``service_id`` may be a name."""
        views = self._plane.sessions(self._understood(query))
        names = {service.id: service.name for service in self._parts.registry.services()}
        return [(view, names[view.service_id]) for view in views]

    async def whois(self, local: Address, query: SessionQuery) -> list[tuple[SessionView, str]]:
        """The live sessions that match and whose backend sees ``local`` as its peer, each with its service's name."""
        found = []
        for view in self._plane.whois(local, self._understood(query)):
            if view is None:
                await asyncio.sleep(0)
            else:
                found.append((view, self._parts.registry.find(view.service_id).name))
        return found

    def kill(self, query: SessionQuery, *, actor: str) -> int:
        """End the sessions that match; returns how many."""
        understood = self._understood(query)
        count = self._plane.kill(understood)
        if count:
            name = None if query.service_id is None else self._parts.registry.find(query.service_id).name
            event = self.events.draft("sessions.killed", actor, f"{count} session(s) ended", name, count=count)
            self._parts.journal.note(event)
        return count

    # The node itself

    def ports(self) -> PortsView:
        """The ports of this node: which are used, by whom, and which rest."""
        return self._views.ports()

    def describe(self) -> dict[str, Any]:
        """The node as ``GET /v1/node`` shows it."""
        return self._views.describe()

    def warnings(self) -> tuple[str, ...]:
        """What works but is probably not meant, of the configuration and of services that it leaves out now; and what
        is wrong outside of this node.
        """
        return self._views.warnings()

    def remarks(self) -> list[str]:
        """What is wrong with the process itself, without a name or an address: anybody may read it."""
        return list(self._watch.warnings())

    def strain(self) -> dict[str, float]:
        """How loaded the node is, by the name of each metric."""
        return self._watch.figures()

    def problems(self) -> list[str]:
        """Why the node cannot do all of its job now; empty when it is ready."""
        return self._views.problems()

    # What the data plane, the healer and time say

    def backend_failed(self, service_id: str, backend_id: str, address: Address, detail: str) -> None:
        """A dial failed, or a datagram was refused. Late news of an earlier instance is ignored."""
        routes = self._parts.registry.routes(service_id)
        if any(route.backend_id == backend_id and route.address == address for route in routes):
            self._backing.failed(service_id, backend_id, detail)

    def _log_session(self, session: SessionView, reason: Reason) -> None:
        name = self._parts.registry.find(session.service_id).name
        log.debug("session.closed", reason=reason.value, **session_json(session, name))

    def _healed(self, opening: Opening) -> None:
        self._plane.set_policy(opening.service_id, self._parts.registry.policy(opening.service_id))
        self._serve(opening.service_id)
        message = f"{opening.name}: port {opening.port} is open"
        self._parts.journal.note(self.events.draft("service.healed", NODE, message, opening.name, port=opening.port))

    def _opening(self, service_id: str) -> Opening:
        registry = self._parts.registry
        return self._parts.opening(registry.find(service_id), registry.policy(service_id))

    def _serve(self, service_id: str) -> None:
        self._plane.open(service_id)
        self._backing.route(service_id)

    def _wake_ports(self) -> None:
        rested = self._ports.rested(time.monotonic())
        if rested:
            self._parts.journal.wake(rested)
        self._wake_timer = asyncio.get_running_loop().call_later(1.0, self._wake_ports)

    def _understood(self, query: SessionQuery) -> SessionQuery:
        if query.client is not None:
            try:
                ipaddress.ip_network(query.client, strict=False)
            except ValueError:
                raise Invalid(
                    f"client {shown(query.client)} is neither an address nor a network like 192.0.2.0/24",
                    code="client_invalid",
                ) from None
        if query.service_id is None:
            return query
        return replace(query, service_id=self._parts.registry.find(query.service_id).id)
