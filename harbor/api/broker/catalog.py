"""What the broker offers: one service, a plan for each protocol, and the parameters that can be given to them.

The ids never change and are the same on every node: a platform knows an offering by its id, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from harbor.api.requests import or_null
from harbor.errors import Invalid
from harbor.model import Exposure, Protocol, Tls
from harbor.model.policy import FIELDS
from harbor.policy.naming import PLANS, shown

SERVICE_ID: Final = "d3ed0e63-6a9d-4038-bf1f-acd3169d9449"
SCHEMA: Final = "http://json-schema.org/draft-04/schema#"  # the one draft that every platform has to know


class Plan(NamedTuple):
    """A plan of the offering; ``name`` is what the node knows it by."""

    id: str
    name: str
    description: str
    bullets: tuple[str, ...]


PLAN_LIST: Final = (
    Plan(
        "c07c4647-6cb3-46ac-b2cc-9e46507540fd",
        "tcp",
        "A TCP port. Connections go to the instances of the app in turn.",
        ("one TCP port", "round robin per connection"),
    ),
    Plan(
        "c69a23ec-125f-4e0b-933d-60e74356e222",
        "udp",
        "A UDP port. Datagrams go to the instance that registered first; the others take over in order.",
        ("one UDP port", "first come, first served, with promotion"),
    ),
    Plan(
        "4708bfc2-2f2d-4a3a-bb88-680b332002a6",
        "both",
        "TCP and UDP on one port number.",
        ("one port number for TCP and UDP", "both or neither"),
    ),
    Plan(
        "0cbb766b-94ca-475d-ae63-31ba3f40b71c",
        "https",
        "A TCP port that ends TLS and hands plain HTTP to the app.",
        ("one TCP port with TLS", "the app speaks plain HTTP"),
    ),
)
BY_ID: Final[dict[str, Plan]] = {plan.id: plan for plan in PLAN_LIST}


def check_service(service_id: str) -> None:
    """Return if this is the offering. Errors: ``Invalid`` (``offering_unknown``)."""
    if service_id != SERVICE_ID:
        raise Invalid(
            f"service_id {shown(service_id)} is not in this catalog; it has {SERVICE_ID}", code="offering_unknown"
        )


def plan_of(plan_id: str) -> Plan:
    """The plan with this id. Errors: ``Invalid`` (``plan_unknown``)."""
    if plan_id not in BY_ID:
        ids = ", ".join(f"{plan.id} ({plan.name})" for plan in PLAN_LIST)
        raise Invalid(f"plan_id {shown(plan_id)} is not in this catalog; it has {ids}", code="plan_unknown")
    return BY_ID[plan_id]


def catalog() -> dict[str, Any]:
    """The reply to ``GET /v2/catalog``."""
    return {
        "services": [
            {
                "id": SERVICE_ID,
                "name": "harbor",
                "description": "TCP and UDP ports, forwarded to the instances of an app",
                "tags": ["harbor", "port", "tcp", "udp"],
                "bindable": True,
                "instances_retrievable": True,
                "bindings_retrievable": True,
                "allow_context_updates": True,
                "plan_updateable": True,
                "metadata": {
                    "displayName": "Harbor",
                    "longDescription": "Leases ports. Every instance of a bound app that registers becomes a backend; "
                    "ports open and close at run time, and trouble on one never touches another.",
                },
                "plans": [_plan(plan) for plan in PLAN_LIST],
            }
        ]
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "id": plan.id,
        "name": plan.name,
        "description": plan.description,
        "free": True,
        "bindable": True,
        "plan_updateable": True,
        "metadata": {"displayName": plan.name, "bullets": list(plan.bullets)},
        "schemas": {
            "service_instance": {
                "create": {"parameters": _schema(_lease(plan) | _policy())},
                "update": {"parameters": _schema(_policy())},
            },
            "service_binding": {"create": {"parameters": _schema(_BINDING)}},
        },
    }


def _schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"$schema": SCHEMA, "type": "object", "additionalProperties": False, "properties": dict(properties)}


def _lease(plan: Plan) -> dict[str, Any]:
    """What is fixed once the port is leased."""
    properties = {
        "protocol": _choice(Protocol, "What is forwarded, if not what the plan says."),
        "port": {
            "description": "A particular port. Unless given, the node chooses a free one.",
            "type": "integer",
            "minimum": 1,
            "maximum": 65535,
        },
        "exposure": _choice(Exposure, "Who can reach the port: everybody, or the inner network only."),
        "tls": _choice(Tls, "Who ends TLS on the port: nobody, the node, or the app."),
    }
    if not PLANS[plan.name].has_tcp:
        del properties["tls"]
    return properties


def _policy() -> dict[str, Any]:
    """As JSON Schema draft 4; null gives a field back to the node's default."""
    return {name: {"description": one.meaning, **or_null(one.kind.schema())} for name, one in FIELDS.items()}


def _choice(kind: type[Protocol] | type[Exposure] | type[Tls], description: str) -> dict[str, Any]:
    return {"description": description, "type": "string", "enum": [member.value for member in kind]}


_BINDING: Final = {
    "app": {
        "description": "What Harbor calls the app. Unless given, it is known by its guid.",
        "type": "string",
        "minLength": 1,
        "maxLength": 63,
        "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
    }
}
