"""Services come and go: who leases which port, by which policy.

plan → bind → commit → apply: a failure undoes what came before it, and whoever was answered can rely on the answer.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from harbor.errors import Invalid, Refused
from harbor.model import Exposure, Policy, Reason, Service, ServiceCounters, ServiceView, ServiceWish, Status
from harbor.model.policy import FIELDS, check_fit, check_overrides
from harbor.model.server_names import check_server_names
from harbor.model.tls import check_backend_tls, check_settings
from harbor.node.apps import unbound_event
from harbor.node.backend_tls import changed_backend_tls
from harbor.node.backing import Backing
from harbor.node.certificates import Certificates
from harbor.node.lifetimes import Lifetimes
from harbor.node.listeners import Listeners
from harbor.node.parts import NODE, Parts
from harbor.node.replies import Replies
from harbor.node.sharing import SAID, alone_on, changed_names, check_may_have_names, names_of, others_on
from harbor.node.shelf import TEXTS
from harbor.policy.naming import check_name, protocol_for, shown, tls_for
from harbor.policy.ports import InternalPorts, Ports
from harbor.policy.registry import origin_of
from harbor.policy.sharing import check_sharing
from harbor.store import RemoveService, RestPort, SaveReply, SaveService

BESIDE_POLICY: Final = ("tls_rules", "backend_tls", "server_names")  # what can be changed beside the policy
LISTED: Final = 20  # entries of a list that an event tells


class Leasing:
    """Creates, changes and deletes services."""

    def __init__(
        self,
        parts: Parts,
        ports: Ports,
        internal: InternalPorts,
        listeners: Listeners,
        replies: Replies,
        backing: Backing,
        certificates: Certificates,
    ) -> None:
        self._parts = parts
        self._ports = ports
        self._internal = internal
        self._listeners = listeners
        self._replies = replies
        self._backing = backing
        self._certificates = certificates
        self.lifetimes = Lifetimes(self._expire)
        self._planned: set[object] = set()  # names and origins of services that are being made

    async def create(
        self, wish: ServiceWish, actor: str, key: str | None, fingerprint: str, noted: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """Lease a port. Returns the reply, and False if it answers an earlier request with the same key."""
        async with self._replies.claim(key, fingerprint) as earlier:
            if earlier is not None:
                return dict(earlier.body), False
            overrides = check_overrides(wish.overrides)
            draft = dataclasses.replace(
                self._plan(wish, overrides),
                expires_at=_end_after(self._parts.defaults.with_overrides(overrides)),
                tls_rules=check_settings(wish.tls_rules),
                backend_tls=None if wish.backend_tls is None else check_backend_tls(wish.backend_tls),
                server_names=check_server_names(wish.server_names),
            )
            check_fit(overrides, draft.protocol)
            check_may_have_names(draft)
            planned = {draft.name, origin_of(draft)} - {None}
            self._planned |= planned
            try:
                async with alone_on(self._parts, wish.port, draft):
                    return await self._lease(draft, wish, actor, key, fingerprint, noted), True
            finally:
                self._planned -= planned

    async def update(
        self,
        ref: str,
        changes: Mapping[str, Any],
        actor: str,
        plan: str | None,
        origin: Mapping[str, Any] | None,
        noted: Mapping[str, Any],
    ) -> Service:
        """Change the policy of a service; None sets a field back to the node's default. Live sessions stay.

        ``plan`` and ``origin`` are what the service is said to be; they change nothing of what it does.
        """
        registry = self._parts.registry
        known = registry.find(ref)
        async with self._parts.locks.hold(known.id), alone_on(self._parts, known.port, known):
            service = registry.find(known.id)
            policy_changes = {name: value for name, value in changes.items() if name not in BESIDE_POLICY}
            given = {name: value for name, value in policy_changes.items() if value is not None}
            overrides = {**service.overrides, **given}
            tls_rules = _changed_rules(service, changes)
            for name in policy_changes:
                if name not in FIELDS:
                    raise Invalid(
                        f"{shown(name)} cannot be changed; there are {', '.join(FIELDS)}", code="policy_invalid"
                    )
                if changes[name] is None:
                    overrides.pop(name, None)
            overrides = check_overrides(overrides)
            check_fit(overrides, service.protocol)
            policy = self._parts.defaults.with_overrides(overrides)
            successor = dataclasses.replace(
                service,
                overrides=overrides,
                expires_at=_end_after(policy) if "expires" in changes else service.expires_at,
                plan=service.plan if plan is None else plan,
                origin=service.origin if origin is None else origin,
                tls_rules=tls_rules,
                backend_tls=changed_backend_tls(service, changes),
                server_names=changed_names(service, changes),
            )
            await self._certificates.check_rules(successor)
            check_may_have_names(successor)
            check_sharing(successor, others_on(self._parts, service.port, service))
            renamed = {"plan": successor.plan} if successor.plan != service.plan else {}
            news = {**renamed, **changes}
            if "backend_tls" in news and news["backend_tls"] is None:
                news["backend_tls"] = "off"
            said = ", ".join(f"{name}={_said(value)}" for name, value in news.items()) or "nothing"
            details = {**renamed, **_plain(changes), **noted}
            event = self._parts.feed.draft("service.updated", actor, f"{service.name}: {said}", service.name, **details)
            await self._parts.journal.commit(event, SaveService(successor))
            effects = registry.replace(successor, policy, time.monotonic())
            self._parts.plane.set_policy(service.id, policy)
            self._parts.plane.set_server_names(service.id, successor.server_names)
            self._backing.apply(effects)
            self._certificates.show(successor)
            self.lifetimes.follow(successor)
            return successor

    async def _expire(self, service: Service) -> None:
        """Its time is over, unless another was set meanwhile."""
        if service.id in self._parts.registry:
            end = self.delete(service.id, NODE, True, {"expired": True}, only_at=service.expires_at)
            await self._parts.to_the_end(end)

    async def delete(
        self, ref: str, actor: str, force: bool, noted: Mapping[str, Any], only_at: float | None = None
    ) -> None:
        """End a lease: the port closes, its sessions end, and it rests before another service gets it.

        Apps that are bound to it refuse that, or are let go in the same commit. With ``only_at`` nothing happens unless
        that is still when the service expires.
        """
        registry = self._parts.registry
        known = registry.find(ref)
        async with self._parts.locks.hold(known.id), alone_on(self._parts, known.port, known):
            service = registry.find(known.id)
            if only_at is not None and service.expires_at != only_at:
                return
            bound = self._parts.bindings.of_service(service.id)
            if bound and not force:
                raise _bound(service.name, [binding.app for binding in bound])
            unbound = [unbound_event(self._parts.feed, actor, service.name, binding, noted) for binding in bound]
            others = others_on(self._parts, service.port, service)
            event = self._parts.feed.draft(
                "service.deleted",
                actor,
                f"{service.name} {'expired and ' if only_at is not None else ''}gave back port {service.port}"
                + (f", which stays with {names_of(others)}" if others else ""),
                service.name,
                port=service.port,
                **noted,
            )
            rest = () if others else (RestPort(service.port),)
            await self._parts.journal.commit(event, RemoveService(service.id), *rest, before=unbound)
            for binding in bound:
                self._parts.bindings.remove(binding)
            self._parts.plane.close_port(service.id, Reason.SERVICE_DELETED)
            self._listeners.forget(service.id)
            self.lifetimes.forget(service.id)
            registry.remove(service.id)
            self._backing.forget_service(service.id)
            await self._certificates.forget(service.id)
            self._ports.release(service.port, time.monotonic())
            self._internal.release(service.int_port)

    def _plan(self, wish: ServiceWish, overrides: Mapping[str, Any]) -> Service:
        name = check_name(wish.name)
        protocol = protocol_for(name, wish.plan, wish.protocol)
        tls = tls_for(name, wish.plan, wish.tls, protocol)
        if name in self._planned or name in self._parts.registry:
            raise Refused(f"there is a service {shown(name)} already; choose another name", code="service_exists")
        asked = origin_of(wish)
        if asked is not None and (asked in self._planned or self._parts.registry.from_origin(*asked)):
            raise Refused(
                f"{asked[0]} instance {shown(asked[1])} has a service already; use another instance id",
                code="instance_exists",
            )
        node = self._parts.config.node
        public = bool(node.ext_host or node.ext_hostname)
        return Service(
            id=str(uuid.uuid4()),
            name=name,
            protocol=protocol,
            port=0,
            int_port=0,
            exposure=wish.exposure or (Exposure.PUBLIC if public else Exposure.PRIVATE),
            tls=tls,
            plan=wish.plan,
            created=time.time(),
            overrides=overrides,
            origin=wish.origin,
        )

    async def _lease(
        self,
        draft: Service,
        wish: ServiceWish,
        actor: str,
        key: str | None,
        fingerprint: str,
        noted: Mapping[str, Any],
    ) -> dict[str, Any]:
        parts = self._parts
        others = others_on(parts, wish.port, draft) if draft.can_share and wish.port is not None else []
        if others and wish.exposure is None:
            draft = dataclasses.replace(draft, exposure=others[0].exposure)
        policy = parts.defaults.with_overrides(draft.overrides)
        int_port = self._internal.take()
        try:
            await self._certificates.prepare(draft)
            port = await self._bind(draft, policy, wish.port, others)
        except BaseException:
            self._internal.release(int_port)
            await self._certificates.forget(draft.id)
            raise
        try:
            service = dataclasses.replace(draft, port=port, int_port=int_port)
            listen = parts.listen_address(service.exposure)
            shelf = self._certificates.shelf
            body = ServiceView(
                service, Status.READY, None, listen, policy, (), ServiceCounters(),
                tls_rules=shelf.rules(service), backend_tls=shelf.backend_rules(service),
            ).as_json()  # fmt: skip
            event = parts.feed.draft(
                "service.created",
                actor,
                f"{service.name} leases {service.protocol.value} port {port}"
                + (f", which it shares with {names_of(others)}" if others else ""),
                service.name,
                port=port,
                protocol=service.protocol.value,
                **noted,
            )
            reply = SaveReply(key, fingerprint, body) if key is not None else None
            await parts.journal.commit(event, SaveService(service), *([reply] if reply else []))
        except BaseException:
            parts.plane.close_port(draft.id, Reason.SERVICE_DELETED)
            self._ports.withdraw(port)
            self._internal.release(int_port)
            await self._certificates.forget(draft.id)
            raise
        if reply is not None:
            self._replies.remember(reply)
        parts.registry.add(service, policy)
        self._certificates.show(service)
        self.lifetimes.follow(service)
        parts.plane.open(service.id)
        return body

    async def _bind(self, draft: Service, policy: Policy, pin: int | None, others: Sequence[Service]) -> int:
        """Bind a port and lease it, in one go as far as others can see."""
        parts = self._parts
        if pin is None:
            opening = self._listeners.any(
                lambda port: parts.opening(dataclasses.replace(draft, port=port), policy),
                avoid=self._backing.local_ports(),
            )
            self._ports.lease(opening.port)
            return opening.port
        port = self._ports.check_pin(pin, time.monotonic(), may_join=bool(others))
        pinned = dataclasses.replace(draft, port=port)
        check_sharing(pinned, others)
        if not others and port in self._backing.local_ports():
            raise Refused(
                f"port {port} is where a backend on this machine listens; choose another, or none", code="port_taken"
            )
        if others:
            self._ports.join(port)
        else:
            self._ports.lease(port)
        try:
            await self._listeners.pinned(parts.opening(pinned, policy))
        except BaseException:
            self._ports.withdraw(port)
            raise
        return port


def _end_after(policy: Policy) -> float | None:
    return time.time() + policy.expires if policy.expires else None


def _bound(name: str, apps: list[str]) -> Refused:
    more = f" and {len(apps) - SAID} more" if len(apps) > SAID else ""
    return Refused(
        f"service {name} is bound to {', '.join(apps[:SAID])}{more}; unbind them first (harbor unbind-service), or "
        "force the deletion, which unbinds them",
        code="service_bound",
    )


def _changed_rules(service: Service, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The TLS rules with what changes; None sets one of them, or all, back to the node's default."""
    if "tls_rules" not in changes:
        return dict(service.tls_rules)
    wanted = changes["tls_rules"]
    if wanted is None:
        return {}
    merged = {**service.tls_rules, **wanted}
    return check_settings({name: value for name, value in merged.items() if value is not None})


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name}={_said(_short(name, one))}" for name, one in value.items()) + ")"
    if isinstance(value, list) and len(value) > LISTED:
        return f"({len(value)} entries)"
    return "default" if value is None else str(value)


def _short(name: str, value: Any) -> Any:
    return "given" if name in TEXTS and value is not None else value


def _enough(value: Any) -> Any:
    """As much of a value as an event tells; ten thousand networks would be stored with each change of them."""
    if isinstance(value, list) and len(value) > LISTED:
        return [*value[:LISTED], f"and {len(value) - LISTED} more"]
    return value


def _plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: _enough(getattr(value, "value", value)) for name, value in changes.items()}
    for group in BESIDE_POLICY:
        rules = plain.get(group)
        if isinstance(rules, Mapping):
            plain[group] = {name: _short(name, value) for name, value in rules.items()}
    return plain
