"""Instances: what platforms ask for, as services of the node.

Nothing is kept here but what is under way. Everything else is asked of the node: which service belongs to an instance,
and what was asked for when it was made (see ``origins``). So a restart forgets nothing, and a retry after one is
answered as before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harbor.api.broker import origins
from harbor.api.broker.catalog import check_service, plan_of
from harbor.api.broker.checks import check_belongs, check_chosen, check_maintenance, check_update, gone, shape
from harbor.api.broker.names import candidates, first_free
from harbor.api.broker.operations import Operations, conflict
from harbor.api.broker.quotas import Grant, check_ports, larger, sessions_for
from harbor.api.broker.requests import HintQuery, ProvisionBody, UpdateBody
from harbor.errors import NotFound, Refused
from harbor.model import Exposure, Service, ServiceView, ServiceWish
from harbor.policy.naming import shown

if TYPE_CHECKING:
    from harbor.config import Quota
    from harbor.node import Node


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the broker's user, and what an event has to tell of the person for whom the platform asks."""

    actor: str
    noted: Mapping[str, Any]


class Instances:
    """The instances of all platforms."""

    def __init__(self, node: Node, quotas: tuple[Quota, ...], operations: Operations) -> None:
        self._node = node
        self._quotas = quotas
        self._operations = operations
        self._planned: dict[str, Grant] = {}  # to instances that are being made or given more

    async def provision(self, instance_id: str, body: ProvisionBody, caller: Caller) -> tuple[ServiceView, bool]:
        """The instance, made unless it is there; and whether this request made it.

        Errors: ``offering_unknown``, ``plan_unknown``, ``instance_conflict``, ``concurrency_error``,
        ``quota_exceeded``, and those of leasing a port.
        """
        check_service(body.service_id)
        plan_of(body.plan_id)
        check_maintenance(body)
        origin = origins.of_instance(instance_id, body)
        request = origins.asked(origin)
        made, first = await self._operations.carry_out(
            "provision", instance_id, None, request, lambda: self._provision(body, origin, caller)
        )
        return self._node.service(self.known(instance_id).id), made and first

    async def _provision(self, body: ProvisionBody, origin: Mapping[str, Any], caller: Caller) -> bool:
        instance_id = origin["instance_id"]
        known = self.find(instance_id)
        if known is not None:
            if origins.asked(known.origin) != origins.asked(origin):
                raise conflict("provision")
            return False
        wish = self._wish(body, origin)
        self._planned[instance_id] = Grant(body.tenant, wish.overrides.get("max_sessions", self._default_sessions))
        try:
            await self._create(wish, instance_id, caller)
        finally:
            del self._planned[instance_id]
        return True

    async def _create(self, wish: ServiceWish, instance_id: str, caller: Caller) -> None:
        async def under(name: str) -> None:
            named = dataclasses.replace(wish, name=name)
            await self._node.create_service(named, actor=caller.actor, noted=caller.noted)

        wanted = wish.origin["context"].get("instance_name")
        await first_free(candidates(wanted, str(wish.plan), instance_id), under, taken="service_exists")

    async def update(self, instance_id: str, body: UpdateBody, caller: Caller) -> None:
        """Change plan and parameters as far as a live port can follow.

        Errors: ``instance_not_found``, ``update_unsupported``, ``concurrency_error``, ``quota_exceeded`` ...
        """
        check_service(body.service_id)
        check_maintenance(body)
        if body.plan_id is not None:
            plan_of(body.plan_id)
        await self._operations.carry_out(
            "update", instance_id, None, None, lambda: self._update(instance_id, body, caller)
        )

    async def _update(self, instance_id: str, body: UpdateBody, caller: Caller) -> None:
        service = self.known(instance_id)
        origin = origins.of_update(service.origin, body)
        plan = plan_of(origin["plan_id"]).name
        check_update(service, plan, {} if body.parameters is None else body.parameters.given(), origin)
        changes = {} if body.parameters is None else body.parameters.policy()
        with self._more_sessions(instance_id, origin, changes):
            if changes or origin != service.origin:
                await self._node.update_service(
                    service.id, changes, actor=caller.actor, plan=plan, origin=origin, noted=caller.noted
                )

    @contextmanager
    def _more_sessions(self, instance_id: str, origin: Mapping[str, Any], changes: dict[str, Any]) -> Iterator[None]:
        """Keep a change of ``max_sessions`` within the quotas, and count it while it is being made."""
        if "max_sessions" not in changes:
            yield
            return
        asked, tenant = changes["max_sessions"], origins.tenant_of(origin)
        others = self._granted(but=instance_id)
        changes["max_sessions"] = sessions_for(self._quotas, tenant, others, asked, self._default_sessions)
        present = self._node.service(self.known(instance_id).id).policy.max_sessions
        coming = self._default_sessions if changes["max_sessions"] is None else changes["max_sessions"]
        self._planned[instance_id] = Grant(tenant, larger(present, coming))
        try:
            yield
        finally:
            del self._planned[instance_id]

    async def deprovision(self, instance_id: str, chosen: HintQuery, caller: Caller) -> None:
        """Delete the instance. Errors: 410 (``instance_gone``), ``service_bound``, ``concurrency_error``."""
        check_chosen(chosen)
        await self._operations.carry_out(
            "deprovision", instance_id, None, None, lambda: self._deprovision(instance_id, chosen, caller)
        )

    async def _deprovision(self, instance_id: str, chosen: HintQuery, caller: Caller) -> None:
        service = self.find(instance_id)
        if service is None:
            raise gone(instance_id)
        check_belongs(service, chosen)
        try:
            await self._node.delete_service(service.id, actor=caller.actor, noted=caller.noted)
        except NotFound:  # an administrator was faster
            raise gone(instance_id) from None

    def fetch(self, instance_id: str, hint: HintQuery) -> ServiceView:
        """An instance as it is now. Errors: ``instance_not_found``; ``concurrency_error`` while it is updated."""
        service = self.known(instance_id)
        check_belongs(service, hint)
        if self._operations.kind(instance_id) == "update":
            raise Refused("the instance is being updated; try again", code="concurrency_error", status=422)
        return self._node.service(service.id)

    def last_operation(self, instance_id: str, hint: HintQuery) -> str:
        """``in progress`` or ``succeeded``. Errors: 410 (``instance_gone``)."""
        check_chosen(hint)
        if self._operations.kind(instance_id) is not None:
            return "in progress"
        if self.find(instance_id) is None:
            raise gone(instance_id)
        return "succeeded"

    def find(self, instance_id: str) -> Service | None:
        """The service of an instance."""
        return self._node.find_by_origin(origins.PLATFORM, instance_id)

    def known(self, instance_id: str) -> Service:
        """The same, which must be there. Errors: ``instance_not_found``."""
        service = self.find(instance_id)
        if service is None:
            raise NotFound(f"there is no instance {shown(instance_id)}", code="instance_not_found")
        return service

    def _wish(self, body: ProvisionBody, origin: Mapping[str, Any]) -> ServiceWish:
        """What is asked of the node, within the quotas. What the name says of protocol and TLS is read here, from the
        name that the user gave: the one that the service gets may be another.
        """
        given, policy = origin["parameters"], {} if body.parameters is None else body.parameters.policy()
        tenant, granted = body.tenant, list(self._granted())
        check_ports(self._quotas, tenant, granted)
        overrides = {name: value for name, value in policy.items() if value is not None}
        sessions = sessions_for(self._quotas, tenant, granted, overrides.get("max_sessions"), self._default_sessions)
        if sessions is not None:
            overrides["max_sessions"] = sessions
        plan = plan_of(body.plan_id).name
        protocol, tls = shape(origin, plan)
        return ServiceWish(
            name="",
            protocol=protocol,
            port=given.get("port"),
            exposure=Exposure(given["exposure"]) if "exposure" in given else None,
            tls=tls,
            plan=plan,
            overrides=overrides,
            origin=origin,
        )

    @property
    def _default_sessions(self) -> int:
        return self._node.config.defaults.policy().max_sessions

    def _granted(self, but: str | None = None) -> Iterator[Grant]:
        """What every instance has, and those that are being made, without the one ``but``."""
        if not self._quotas:
            return
        for service, policy in self._node.leases():
            origin = service.origin
            if origin.get("platform") == origins.PLATFORM and origin["instance_id"] not in (but, *self._planned):
                yield Grant(origins.tenant_of(origin), policy.max_sessions)
        yield from (grant for instance_id, grant in self._planned.items() if instance_id != but)
