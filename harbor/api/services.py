"""Services: lease a port, look at it, change its policy, give it back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from harbor.api import pages
from harbor.api.context import ActingNode, Actor, IdempotencyKey
from harbor.api.replies import ServiceReply, replies
from harbor.api.requests import DeleteParams, PageParams, ServiceBody, ServicePatch, body_of, body_schema

router = APIRouter(tags=["services"])


@router.get("/v1/services", responses=replies(200, list[ServiceReply], "Services by name"))
async def list_services(request: Request, node: ActingNode, query: PageParams) -> Response:
    """All services, by name."""
    names = [service.name for service, _ in node.leases()]
    shown, more = pages.part(names, str, query.after, query.limit)
    # What a service does is looked up for those of the page only: with all of ten thousand, sessions would notice.
    return pages.page(request, [node.service(name).as_json() for name in shown], shown[-1] if more else None)


@router.post(
    "/v1/services",
    status_code=201,
    responses=replies(201, ServiceReply, "The port is leased and open"),
    openapi_extra=body_schema(ServiceBody),
)
async def create_service(
    node: ActingNode,
    actor: Actor,
    body: Annotated[Any, Depends(body_of(ServiceBody))],
    key: IdempotencyKey = None,
) -> Response:
    """Lease a port. Without `port` the node chooses a free one at random."""
    reply, made = await node.create_service(body.wish(), actor=actor, key=key, fingerprint=body.fingerprint())
    headers = {"Location": f"/v1/services/{reply['name']}"}
    if not made:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(reply, status_code=201, headers=headers)


@router.get("/v1/services/{service}", responses=replies(200, ServiceReply, "The service"))
async def get_service(node: ActingNode, service: str) -> Response:
    """One service, by name or id."""
    return JSONResponse(node.service(service).as_json())


@router.patch(
    "/v1/services/{service}",
    responses=replies(200, ServiceReply, "The service as it is now"),
    openapi_extra=body_schema(ServicePatch),
)
async def change_service(
    node: ActingNode,
    actor: Actor,
    service: str,
    body: Annotated[Any, Depends(body_of(ServicePatch))],
) -> Response:
    """Change the policy; a member set to null follows the node's default again. Sessions live on."""
    view = await node.update_service(service, body.changes(), actor=actor)
    return JSONResponse(view.as_json())


@router.delete("/v1/services/{service}", status_code=204, responses=replies(204, None, "The port is closed and rests"))
async def delete_service(node: ActingNode, actor: Actor, service: str, query: DeleteParams) -> Response:
    """Close the port, end its sessions and give the port back. One that is bound to apps only with `force`."""
    await node.delete_service(service, actor=actor, force=query.force)
    return Response(status_code=204)
