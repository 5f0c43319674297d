"""The paths of the Open Service Broker API. Every operation is complete when it is answered: nobody has to poll."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from harbor.api.broker import replies
from harbor.api.broker.bindings import Bindings
from harbor.api.broker.catalog import catalog
from harbor.api.broker.instances import Caller, Instances
from harbor.api.broker.requests import (
    Asked,
    BindBody,
    BindingId,
    Chosen,
    Flag,
    Hint,
    InstanceId,
    ProvisionBody,
    UpdateBody,
    body_of,
)

PREFIX: Final = "/v2"
DESCRIPTION_PATH: Final = f"{PREFIX}/openapi.json"
INSTANCE: Final = f"{PREFIX}/service_instances/{{instance_id}}"
BINDING: Final = f"{INSTANCE}/service_bindings/{{binding_id}}"

router = APIRouter()


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The statuses with which an operation is refused, by the specification, and all others that may befall it."""
    said = {
        400: "The request is malformed, or something is missing",
        401: "The credentials are not accepted",
        404: "There is no such thing",
        409: "The id is in use for something else, or what is asked for is taken",
        410: "There is nothing to delete (any more)",
        412: "The version of the API is missing or not spoken here",
        422: "It cannot be done as things stand; `ConcurrencyError`: another operation is under way",
    }
    listed: dict[int | str, str] = {status: said[status] for status in (400, 401, 412, *statuses)}
    listed["default"] = "Refused"
    return {
        status: {"model": replies.BrokerError, "description": description} for status, description in listed.items()
    }


def answers(model: Any, description: str, *also: int) -> dict[int | str, dict[str, Any]]:
    """The reply when it worked, with 200 and with the statuses ``also``."""
    return {status: {"model": model, "description": description} for status in (200, *also)}


async def _instances(request: Request) -> Instances:
    return cast("Instances", request.app.state.instances)


async def _bindings(request: Request) -> Bindings:
    return cast("Bindings", request.app.state.bindings)


async def _caller(request: Request) -> Caller:
    return Caller(str(request.scope["harbor.actor"]), request.scope["harbor.noted"])


async def _url(request: Request) -> str:
    return str(request.app.state.api_url)


TheInstances = Annotated[Instances, Depends(_instances)]
TheBindings = Annotated[Bindings, Depends(_bindings)]
Asking = Annotated[Caller, Depends(_caller)]
ApiUrl = Annotated[str, Depends(_url)]


@router.get(f"{PREFIX}/catalog", tags=["catalog"], responses=answers(replies.CatalogReply, "The catalog") | refusals())
async def get_catalog() -> Response:
    """What this broker offers: the service `harbor`, its plans, and the parameters that they take."""
    return JSONResponse(catalog())


@router.put(
    INSTANCE,
    tags=["instances"],
    responses=answers(replies.ProvisionedReply, "It was there; or, with 201, it was made", 201) | refusals(409, 422),
)
async def provision(
    instances: TheInstances,
    caller: Asking,
    instance_id: InstanceId,
    body: Annotated[Any, Depends(body_of(ProvisionBody))],
    accepts_incomplete: Flag = None,
) -> Response:
    """Lease a port. The same request again is answered with 200, another one for the same id with 409."""
    view, made = await instances.provision(instance_id, body, caller)
    return JSONResponse(replies.provisioned(view), status_code=201 if made else 200)


@router.get(INSTANCE, tags=["instances"], responses=answers(replies.InstanceReply, "The instance") | refusals(404, 422))
async def fetch_instance(instances: TheInstances, instance_id: InstanceId, hint: Hint) -> Response:
    """One instance, with its parameters and its port."""
    return JSONResponse(replies.instance(instances.fetch(instance_id, hint)))


@router.patch(
    INSTANCE,
    tags=["instances"],
    responses=answers(replies.NothingReply, "It is as asked for") | refusals(404, 422),
)
async def update(
    instances: TheInstances,
    caller: Asking,
    instance_id: InstanceId,
    body: Annotated[Any, Depends(body_of(UpdateBody))],
    accepts_incomplete: Flag = None,
) -> Response:
    """Change parameters; live sessions stay. A plan that would make another port of it is refused."""
    await instances.update(instance_id, body, caller)
    return JSONResponse({})


@router.delete(
    INSTANCE,
    tags=["instances"],
    responses=answers(replies.NothingReply, "The port is closed and rests") | refusals(409, 410, 422),
)
async def deprovision(
    instances: TheInstances,
    caller: Asking,
    instance_id: InstanceId,
    chosen: Chosen,
    accepts_incomplete: Flag = None,
) -> Response:
    """Give the port back. An instance with bindings is refused: the platform removes them first."""
    await instances.deprovision(instance_id, chosen, caller)
    return JSONResponse({})


@router.get(
    f"{INSTANCE}/last_operation",
    tags=["instances"],
    responses=answers(replies.OperationReply, "How it stands") | refusals(410),
)
async def instance_operation(instances: TheInstances, instance_id: InstanceId, asked: Asked) -> Response:
    """How the last operation on an instance stands."""
    return JSONResponse({"state": instances.last_operation(instance_id, asked)})


@router.put(
    BINDING,
    tags=["bindings"],
    responses=answers(replies.BoundReply, "It was there; or, with 201, it was made", 201) | refusals(404, 409, 422),
)
async def bind(
    bindings: TheBindings,
    caller: Asking,
    url: ApiUrl,
    instance_id: InstanceId,
    binding_id: BindingId,
    body: Annotated[Any, Depends(body_of(BindBody))],
    accepts_incomplete: Flag = None,
) -> Response:
    """Bind an app, or make credentials without one. The token lets instances of the app register as backends."""
    view, service, made = await bindings.bind(instance_id, binding_id, body, caller)
    return JSONResponse(replies.bound(view, service, url), status_code=201 if made else 200)


@router.get(BINDING, tags=["bindings"], responses=answers(replies.BindingReply, "The binding") | refusals(404))
async def fetch_binding(
    bindings: TheBindings, url: ApiUrl, instance_id: InstanceId, binding_id: BindingId, hint: Hint
) -> Response:
    """One binding, with its credentials."""
    view, service = bindings.fetch(instance_id, binding_id, hint)
    return JSONResponse(replies.binding(view, service, url))


@router.delete(
    BINDING,
    tags=["bindings"],
    responses=answers(replies.NothingReply, "The token is revoked") | refusals(410, 422),
)
async def unbind(
    bindings: TheBindings,
    caller: Asking,
    instance_id: InstanceId,
    binding_id: BindingId,
    chosen: Chosen,
    accepts_incomplete: Flag = None,
) -> Response:
    """Remove a binding and revoke its token. Backends stay until their leases end."""
    await bindings.unbind(instance_id, binding_id, chosen, caller)
    return JSONResponse({})


@router.get(
    f"{BINDING}/last_operation",
    tags=["bindings"],
    responses=answers(replies.OperationReply, "How it stands") | refusals(410),
)
async def binding_operation(
    bindings: TheBindings, instance_id: InstanceId, binding_id: BindingId, asked: Asked
) -> Response:
    """How the last operation on a binding stands."""
    return JSONResponse({"state": bindings.last_operation(instance_id, binding_id, asked)})
