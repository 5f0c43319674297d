"""Backends of a service: register and renew, drain, remove."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse, Response

from harbor.api.context import ActingNode, Actor
from harbor.api.replies import BackendReply, replies
from harbor.api.requests import BackendBody, body_of, body_schema
from harbor.model.views import backend_json

router = APIRouter(tags=["backends"])


@router.get("/v1/services/{service}/backends", responses=replies(200, list[BackendReply], "Backends in queue order"))
async def list_backends(node: ActingNode, service: str) -> Response:
    """The backends of a service, in queue order."""
    return JSONResponse([backend_json(backend) for backend in node.service(service).backends])


@router.put(
    "/v1/services/{service}/backends/{backend}",
    responses=replies(200, BackendReply, "Renewed or, with 201, registered", 201),
    openapi_extra=body_schema(BackendBody),
)
async def put_backend(
    node: ActingNode,
    actor: Actor,
    service: str,
    backend: str,
    body: Annotated[Any, Depends(body_of(BackendBody))],
) -> Response:
    """Register a backend, or renew its lease: the same request does both."""
    view, created = await node.put_backend(
        service,
        backend,
        host=body.host,
        port=body.port,
        ttl=body.ttl,
        instance=body.instance,
        weight=body.weight,
        actor=actor,
    )
    return JSONResponse(backend_json(view), status_code=201 if created else 200)


@router.delete("/v1/services/{service}/backends/{backend}", status_code=204, responses=replies(204, None, "Removed"))
async def remove_backend(node: ActingNode, actor: Actor, service: str, backend: str) -> Response:
    """Remove a backend; its sessions end as the service's `removal` policy says."""
    await node.remove_backend(service, backend, actor=actor)
    return Response(status_code=204)


@router.post("/v1/services/{service}/backends/{backend}/drain", responses=replies(200, BackendReply, "Draining"))
async def drain_backend(node: ActingNode, actor: Actor, service: str, backend: str) -> Response:
    """Give a backend no new sessions, let the present ones finish, then remove it."""
    return JSONResponse(backend_json(await node.drain_backend(service, backend, actor=actor)))
