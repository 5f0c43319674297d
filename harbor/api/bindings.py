"""Bindings of services to apps, and what an app finds in its environment."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from harbor.api import pages
from harbor.api.context import ActingNode, Actor, IdempotencyKey
from harbor.api.replies import BindingReply, TokenReply, replies
from harbor.api.requests import BindingBody, PageParams, body_of, body_schema

router = APIRouter(tags=["bindings"])


@router.get("/v1/services/{service}/bindings", responses=replies(200, list[BindingReply], "Bindings by app"))
async def list_bindings(request: Request, node: ActingNode, service: str, query: PageParams) -> Response:
    """The bindings of a service, by app; without their tokens."""
    shown, more = pages.part(node.bindings(service), lambda view: view.binding.app, query.after, query.limit)
    following = shown[-1].binding.app if more else None
    return pages.page(request, [view.as_json() for view in shown], following)


@router.post(
    "/v1/services/{service}/bindings",
    status_code=201,
    responses=replies(201, TokenReply, "The app is bound"),
    openapi_extra=body_schema(BindingBody),
)
async def bind_service(
    node: ActingNode,
    actor: Actor,
    service: str,
    body: Annotated[Any, Depends(body_of(BindingBody))],
    key: IdempotencyKey = None,
) -> Response:
    """Bind an app to a service. The token lets its instances register, renew and leave, and nothing else."""
    reply, made = await node.bind_service(
        service, body.app, actor=actor, key=key, fingerprint=body.fingerprint("bind", service)
    )
    headers = {"Location": f"/v1/services/{reply['service']}/bindings/{reply['app']}"}
    if not made:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(reply, status_code=201, headers=headers)


@router.get("/v1/services/{service}/bindings/{app}", responses=replies(200, TokenReply, "The binding"))
async def get_binding(node: ActingNode, service: str, app: str) -> Response:
    """One binding, by app or by its id, with its token."""
    return JSONResponse(node.binding(service, app).with_token())


@router.delete("/v1/services/{service}/bindings/{app}", status_code=204, responses=replies(204, None, "Unbound"))
async def unbind_service(node: ActingNode, actor: Actor, service: str, app: str) -> Response:
    """Unbind an app, by its name or by the binding's id: its token is revoked. Backends stay, and their leases end."""
    await node.unbind_service(service, app, actor=actor)
    return Response(status_code=204)


@router.get("/v1/apps/{app}/env", responses=replies(200, dict[str, str], "Variable → value"))
async def get_environment(node: ActingNode, app: str) -> Response:
    """The environment of an app: `STACKATO_SERVICES`, `VCAP_SERVICES`, `STACKATO_HARBOR` and one for each service."""
    return JSONResponse(node.app_environment(app))
