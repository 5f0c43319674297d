"""What the node keeps of a platform's request, with the service or binding that came of it.

So the broker needs no memory of its own: whether a request is a repetition, and what an instance is, follows from what
is stored beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harbor.api.broker.quotas import Tenant
from harbor.api.broker.requests import BindBody, Context, ProvisionBody, UpdateBody

PLATFORM: Final = "osb"

Origin = Mapping[str, Any]


def of_instance(instance_id: str, body: ProvisionBody) -> dict[str, Any]:
    """What is kept with the service."""
    tenant = body.tenant
    return {
        "platform": PLATFORM,
        "instance_id": instance_id,
        "service_id": body.service_id,
        "plan_id": body.plan_id,
        "organization": tenant.organization,
        "space": tenant.space,
        "context": _context(body.context),
        "parameters": {} if body.parameters is None else body.parameters.given(),
    }


def of_update(origin: Origin, body: UpdateBody) -> dict[str, Any]:
    """What is kept with the service after an update. Parameters that are not named stay, null takes one away."""
    named = set() if body.parameters is None else body.parameters.model_fields_set
    kept = {name: value for name, value in origin["parameters"].items() if name not in named}
    return {
        **origin,
        "plan_id": body.plan_id or origin["plan_id"],
        "context": {**origin["context"], **_context(body.context)},
        "parameters": {**kept, **({} if body.parameters is None else body.parameters.given())},
    }


def of_binding(body: BindBody) -> dict[str, Any]:
    """What is kept with the binding."""
    return {
        "platform": PLATFORM,
        "service_id": body.service_id,
        "plan_id": body.plan_id,
        "app_guid": body.app,
        "context": _context(body.context),
        "parameters": {} if body.parameters is None else body.parameters.given(),
    }


def asked(origin: Origin) -> dict[str, Any]:
    """What is asked for: two requests that agree in this are the same.

    The context is no part of it: a platform may know more by the time it asks again.
    """
    return {name: value for name, value in origin.items() if name != "context"}


def tenant_of(origin: Origin) -> Tenant:
    """Whose a service is."""
    return Tenant(origin["organization"], origin["space"])


def _context(context: Context | None) -> dict[str, str]:
    return {} if context is None else context.model_dump(exclude_none=True)
