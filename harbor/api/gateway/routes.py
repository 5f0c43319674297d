"""The four operations of the gateway: provision, unprovision, bind, unbind."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from harbor.api.context import ActingNode, Actor, IdempotencyKey
from harbor.api.gateway.errors import GatewayError
from harbor.api.gateway.holdings import configuration, handle
from harbor.api.gateway.messages import (
    BindRequest,
    Done,
    HandleReply,
    ProvisionRequest,
    UnbindRequest,
    check_label,
    check_same,
)
from harbor.api.gateway.offering import FREE, VERSION
from harbor.api.gateway.standing import Standing
from harbor.api.requests import body_of, body_schema, check_media_type
from harbor.errors import Invalid, Refused
from harbor.model import Service, ServiceWish
from harbor.policy.naming import check_name

if TYPE_CHECKING:
    from harbor.node import Node

SUFFIX_BYTES: Final = 3  # a name that is taken gets "-" and so many bytes in hexadecimal
LONGEST_STEM: Final = 63 - 1 - 2 * SUFFIX_BYTES
MOST_NAMES: Final = 16  # that are tried; with 16 million suffixes the second one is free


async def _standing(request: Request) -> Standing:
    found: Standing = request.app.state.standing
    found.check()
    return found


Open = Annotated[Standing, Depends(_standing)]
router = APIRouter(prefix="/gateway/v1/configurations", tags=["gateway"])


def _replies(model: Any, description: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"model": model, "description": description},
        "default": {"model": GatewayError, "description": "Refused; `code` says why in the numbers of v1"},
    }


@router.post(
    "",
    responses=_replies(HandleReply, "The service is made; `service_id` is its id"),
    openapi_extra=body_schema(ProvisionRequest),
)
async def provision(
    request: Request,
    node: ActingNode,
    actor: Actor,
    _open: Open,
    body: Annotated[Any, Depends(body_of(ProvisionRequest))],
    key: IdempotencyKey = None,
) -> Response:
    """Make a service. A name that is taken on this node gets a suffix; the protocol is that of the name asked for."""
    made = await _create(node, body.wish(), actor, key, body.fingerprint())
    if key is None and await request.is_disconnected():
        # Nobody will hear of it, and nobody can ask for it again: left alone, it would be an orphan.
        await node.delete_service(made["id"], actor=actor, force=True)
        return JSONResponse({})
    service = node.service(made["id"]).service
    return _reply(service.id, _described(service), node.credentials(service.id))


@router.delete("/{service_id}", responses=_replies(Done, "The port is closed and rests; handles are gone too"))
async def unprovision(request: Request, node: ActingNode, actor: Actor, standing: Open, service_id: str) -> Response:
    """Delete a service and its handles."""
    if request.headers.get("content-type"):
        check_media_type(request)
    standing.released(service_id)
    service = configuration(node, service_id)
    await node.delete_service(service.id, actor=actor, force=True)
    return JSONResponse({})


@router.post(
    "/{service_id}/handles",
    responses=_replies(HandleReply, "The handle is made; `service_id` is the handle's id"),
    openapi_extra=body_schema(BindRequest),
)
async def bind(
    request: Request,
    node: ActingNode,
    actor: Actor,
    _open: Open,
    service_id: str,
    body: Annotated[Any, Depends(body_of(BindRequest))],
) -> Response:
    """Make a handle. Its credentials are the service's; `configuration.token` registers backends of the service."""
    check_same("service_id", body.service_id, service_id)
    check_label(body.label)
    service = configuration(node, service_id)
    handle_id = str(uuid.uuid4())
    made = await _bind(node, service, _app(body.app_id) or handle_id, handle_id, body.origin(), actor)
    if await request.is_disconnected():
        await node.unbind_service(service.id, handle_id, actor=actor)
        return JSONResponse({})
    data = {"binding_options": body.binding_options}
    described = _described(service) | {"app": made["app"], "token": made["token"], "data": data}
    return _reply(handle_id, described, made["credentials"])


@router.delete(
    "/{service_id}/handles/{handle_id}",
    responses=_replies(Done, "The handle is gone, its token revoked"),
    openapi_extra=body_schema(UnbindRequest),
)
async def unbind(
    node: ActingNode,
    actor: Actor,
    standing: Open,
    service_id: str,
    handle_id: str,
    body: Annotated[Any, Depends(body_of(UnbindRequest))],
) -> Response:
    """Delete a handle."""
    check_same("service_id", body.service_id, service_id)
    check_same("handle_id", body.handle_id, handle_id)
    standing.released(handle_id)
    service = configuration(node, service_id)
    binding = handle(node, service, handle_id)
    await node.unbind_service(service.id, binding.id, actor=actor)
    return JSONResponse({})


async def _create(node: Node, wish: ServiceWish, actor: str, key: str | None, fingerprint: str) -> dict[str, Any]:
    tried = wish
    for left in reversed(range(MOST_NAMES)):
        try:
            return (await node.create_service(tried, actor=actor, key=key, fingerprint=fingerprint))[0]
        except Refused as refused:
            if refused.code != "service_exists" or not left:
                raise
        tried = replace(wish, name=f"{wish.name[:LONGEST_STEM]}-{secrets.token_hex(SUFFIX_BYTES)}")
    raise AssertionError("the last attempt returns or raises")


async def _bind(
    node: Node, service: Service, app: str, handle_id: str, origin: dict[str, Any], actor: str
) -> dict[str, Any]:
    try:
        return (await node.bind_service(service.id, app, actor=actor, binding_id=handle_id, origin=origin))[0]
    except Refused as refused:
        if refused.code != "binding_exists" or app == handle_id:
            raise
    # The app is bound already, and its cloud controller asks for one more handle, perhaps because the answer was lost.
    return (await node.bind_service(service.id, handle_id, actor=actor, binding_id=handle_id, origin=origin))[0]


def _app(app_id: str | None) -> str | None:
    """The app's name, if what the cloud controller calls it can be one."""
    try:
        return check_name(app_id, "app") if app_id else None
    except Invalid:
        return None


def _described(service: Service) -> dict[str, Any]:
    return {
        "name": service.name,
        "plan": service.plan or FREE,
        "version": VERSION,
        "protocol": service.protocol.value,
        "exposure": service.exposure.value,
    }


def _reply(handle_id: str, described: dict[str, Any], credentials: dict[str, Any]) -> Response:
    return JSONResponse({"service_id": handle_id, "configuration": described, "credentials": credentials})
