"""The replies of the broker: how they are built, and how OpenAPI describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from harbor.api.broker.requests import ID
from harbor.model import BindingView, Protocol, Service, ServiceView


class Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BrokerError(Reply):
    """Why a request was refused; ``error`` is a stable word, ``description`` is for people."""

    error: str = Field(min_length=1)
    description: str = Field(min_length=1)
    instance_usable: bool | None = Field(None, description="after a refused update or deprovision")
    update_repeatable: bool | None = Field(None, description="after a refused update: whether it may succeed later")


class InputParameters(Reply):
    parameters: dict[str, Any] = Field(description="JSON Schema, draft 4")


class InstanceSchemas(Reply):
    create: InputParameters
    update: InputParameters


class BindingSchemas(Reply):
    create: InputParameters


class PlanSchemas(Reply):
    service_instance: InstanceSchemas
    service_binding: BindingSchemas


class PlanReply(Reply):
    """One plan of the offering."""

    id: str = Field(pattern=f"^{ID.pattern}$")
    name: str
    description: str
    free: bool
    bindable: bool
    plan_updateable: bool
    metadata: dict[str, Any]
    schemas: PlanSchemas


class OfferingReply(Reply):
    """The offering."""

    id: str = Field(pattern=f"^{ID.pattern}$")
    name: str
    description: str
    tags: list[str]
    bindable: bool
    instances_retrievable: bool
    bindings_retrievable: bool
    allow_context_updates: bool
    plan_updateable: bool
    metadata: dict[str, Any]
    plans: list[PlanReply]


class CatalogReply(Reply):
    """What this broker offers."""

    services: list[OfferingReply]


class Attributes(Reply):
    """What the node made of the instance."""

    name: str
    port: int
    protocol: str
    status: str
    reason: str | None = None


class Metadata(Reply):
    labels: dict[str, str]
    attributes: Attributes


class ProvisionedReply(Reply):
    """The instance is there."""

    metadata: Metadata


class InstanceReply(ProvisionedReply):
    """An instance."""

    service_id: str
    plan_id: str
    parameters: dict[str, Any]


class Endpoint(Reply):
    """Where clients reach the port."""

    host: str
    ports: list[str]
    protocol: str = Field(description="tcp, udp or all")


class Credentials(Reply):
    """What a bound app is told, and how its instances become backends."""

    hostname: str
    host: str
    port: int
    name: str = Field(description="the service's id")
    node_id: str
    int_port: int = Field(description="the port the app listens on inside its container")
    ext_hostname: str | None = None
    ext_host: str | None = None
    token: str | None = Field(None, description="bearer token for the backends of this service, and nothing else")
    backends_uri: str = Field(description="PUT {host, port, ttl} to this and an id of your own registers a backend")


class BoundReply(Reply):
    """The binding is there."""

    credentials: Credentials
    endpoints: list[Endpoint]


class BindingReply(BoundReply):
    """A binding."""

    parameters: dict[str, Any]


class OperationReply(Reply):
    """How the last operation stands."""

    state: str = Field(description="in progress or succeeded")


class NothingReply(Reply):
    """Done."""


def provisioned(view: ServiceView) -> dict[str, Any]:
    """What is said of an instance that was asked for."""
    attributes = {
        "name": view.service.name,
        "port": view.service.port,
        "protocol": view.service.protocol.value,
        "status": view.status.value,
    }
    if view.reason is not None:
        attributes["reason"] = view.reason
    return {"metadata": {"labels": {}, "attributes": attributes}}


def instance(view: ServiceView) -> dict[str, Any]:
    """What is said of an instance that is looked at."""
    origin = view.service.origin
    chosen = {member: origin[member] for member in ("service_id", "plan_id", "parameters")}
    return {**chosen, **provisioned(view)}


def bound(view: BindingView, service: Service, api_url: str) -> dict[str, Any]:
    """What is said of a binding that was asked for."""
    credentials = {**view.credentials, "backends_uri": f"{api_url}/v1/services/{service.id}/backends"}
    if view.token is not None:
        credentials["token"] = view.token
    return {"credentials": credentials, "endpoints": _endpoints(view, service)}


def binding(view: BindingView, service: Service, api_url: str) -> dict[str, Any]:
    """What is said of a binding that is looked at."""
    return {**bound(view, service, api_url), "parameters": view.binding.origin["parameters"]}


def _endpoints(view: BindingView, service: Service) -> list[dict[str, Any]]:
    """Each host by which the port is reached, inside first."""
    named = [view.credentials.get(name) for name in ("hostname", "host", "ext_hostname", "ext_host")]
    hosts = list(dict.fromkeys(host for host in named if host))
    protocol = "all" if service.protocol is Protocol.BOTH else service.protocol.value
    return [{"host": host, "ports": [str(service.port)], "protocol": protocol} for host in hosts]
