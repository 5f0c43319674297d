"""What a node holds for a cloud controller. What others had made is none of its business: to it, it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harbor.api.gateway.messages import PLATFORM
from harbor.errors import NotFound
from harbor.model import Binding, Service
from harbor.policy.naming import shown

if TYPE_CHECKING:
    from harbor.node import Node


def held(node: Node) -> dict[str, str]:
    """The ids of services and bindings, and what they are."""
    found: dict[str, str] = {}
    for service in [view.service for view in node.services() if _is_held(view.service)]:
        found[service.id] = f"service {service.name}"
        for binding in [view.binding for view in node.bindings(service.id) if _is_held(view.binding)]:
            found[binding.id] = f"the binding of {service.name} to app {binding.app}"
    return found


def holds(node: Node, handle_id: str) -> bool:
    """Whether there is such a service or binding at all."""
    try:
        return node.service_id(handle_id) == handle_id
    except NotFound:
        return node.find_binding(handle_id) is not None


def configuration(node: Node, service_id: str) -> Service:
    """The service of this id. Errors: ``NotFound`` (``service_not_found``)."""
    try:
        service = node.service(service_id).service
    except NotFound:
        service = None
    if service is None or service.id != service_id or not _is_held(service):
        raise NotFound(f"there is no configuration {shown(service_id)}", code="service_not_found")
    return service


def handle(node: Node, service: Service, handle_id: str) -> Binding:
    """The binding of this id. Errors: ``NotFound`` (``binding_not_found``)."""
    found = node.find_binding(handle_id)
    if found is None or found.binding.service_id != service.id or not _is_held(found.binding):
        raise NotFound(f"configuration {service.id} has no handle {shown(handle_id)}", code="binding_not_found")
    return found.binding


def _is_held(made: Service | Binding) -> bool:
    return made.origin.get("platform") == PLATFORM
