"""Bindings: apps of platforms, bound to services of the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harbor.api.broker import origins
from harbor.api.broker.catalog import check_service, plan_of
from harbor.api.broker.checks import GONE, check_belongs, check_chosen
from harbor.api.broker.instances import Caller, Instances
from harbor.api.broker.names import candidates, first_free
from harbor.api.broker.operations import Operations, conflict
from harbor.api.broker.requests import BindBody, HintQuery
from harbor.errors import HarborError, NotFound
from harbor.model import BindingView, Service
from harbor.policy.naming import shown

if TYPE_CHECKING:
    from harbor.node import Node


class Bindings:
    """The bindings of all platforms."""

    def __init__(self, node: Node, instances: Instances, operations: Operations) -> None:
        self._node = node
        self._instances = instances
        self._operations = operations

    async def bind(
        self, instance_id: str, binding_id: str, body: BindBody, caller: Caller
    ) -> tuple[BindingView, Service, bool]:
        """The binding, made unless it is there, its service, and whether this request made it.

        Errors: ``instance_not_found``, ``binding_conflict``, ``variables_collide``, ``concurrency_error`` ...
        """
        check_service(body.service_id)
        plan_of(body.plan_id)
        origin = origins.of_binding(body)
        request = origins.asked(origin)
        made, first = await self._operations.carry_out(
            "bind", instance_id, binding_id, request, lambda: self._bind(instance_id, binding_id, body, origin, caller)
        )
        view, service = self._known(instance_id, binding_id)
        return view, service, made and first

    async def _bind(
        self, instance_id: str, binding_id: str, body: BindBody, origin: Mapping[str, Any], caller: Caller
    ) -> bool:
        service = self._instances.known(instance_id)
        check_belongs(service, HintQuery(service_id=body.service_id, plan_id=body.plan_id))
        known = self._node.find_binding(binding_id)
        if known is not None:
            if known.binding.service_id != service.id or origins.asked(known.binding.origin) != origins.asked(origin):
                raise conflict("bind")
            return False

        async def as_app(name: str) -> None:
            await self._node.bind_service(
                service.id, name, actor=caller.actor, binding_id=binding_id, origin=origin, noted=caller.noted
            )

        wanted = origin["parameters"].get("app") or body.app
        await first_free(candidates(wanted, "key", binding_id), as_app, taken="binding_exists")
        return True

    async def unbind(self, instance_id: str, binding_id: str, chosen: HintQuery, caller: Caller) -> None:
        """Delete the binding and revoke its token. Errors: 410 (``binding_gone``), ``concurrency_error``."""
        check_chosen(chosen)
        await self._operations.carry_out(
            "unbind", instance_id, binding_id, None, lambda: self._unbind(instance_id, binding_id, chosen, caller)
        )

    async def _unbind(self, instance_id: str, binding_id: str, chosen: HintQuery, caller: Caller) -> None:
        try:
            view, service = self._known(instance_id, binding_id)
            check_belongs(service, chosen)
            await self._node.unbind_service(service.id, view.binding.app, actor=caller.actor, noted=caller.noted)
        except NotFound:
            raise _gone(binding_id) from None

    def fetch(self, instance_id: str, binding_id: str, hint: HintQuery) -> tuple[BindingView, Service]:
        """A binding as it is now, and its service. Errors: ``binding_not_found``, ``instance_not_found``."""
        view, service = self._known(instance_id, binding_id)
        check_belongs(service, hint)
        return view, service

    def last_operation(self, instance_id: str, binding_id: str, hint: HintQuery) -> str:
        """``in progress`` or ``succeeded``. Errors: 410 (``binding_gone``)."""
        check_chosen(hint)
        if self._operations.kind(instance_id, binding_id) is not None:
            return "in progress"
        try:
            self._known(instance_id, binding_id)
        except NotFound:
            raise _gone(binding_id) from None
        return "succeeded"

    def _known(self, instance_id: str, binding_id: str) -> tuple[BindingView, Service]:
        service = self._instances.known(instance_id)
        view = self._node.find_binding(binding_id)
        if view is None or view.binding.service_id != service.id or not _is_ours(view):
            raise NotFound(f"this instance has no binding {shown(binding_id)}", code="binding_not_found")
        return view, service


def _is_ours(view: BindingView) -> bool:
    """Whether a platform made the binding, and not somebody at a command line."""
    return view.binding.origin.get("platform") == origins.PLATFORM


def _gone(binding_id: str) -> HarborError:
    return HarborError(f"this instance has no binding {shown(binding_id)}", code="binding_gone", status=GONE)
