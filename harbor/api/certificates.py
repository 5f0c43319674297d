"""Certificates of services: upload one, look at what is shown, forget it. No reply ever holds a key."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from harbor.api import pages
from harbor.api.context import ActingNode, Actor
from harbor.api.replies import CertificateReply, replies
from harbor.api.requests import CertificateBody, LabelParams, PageParams, body_of, body_schema

router = APIRouter(tags=["certificates"])


@router.get("/v1/certificates", responses=replies(200, list[CertificateReply], "Certificates by service"))
async def list_certificates(request: Request, node: ActingNode, query: PageParams) -> Response:
    """What the services show whose TLS the node ends, by name."""
    shown, more = pages.part(node.certificates(), lambda view: view.service, query.after, query.limit)
    following = shown[-1].service if more else None
    return pages.page(request, [view.as_json(time.time()) for view in shown], following)


@router.get("/v1/certificates/{service}", responses=replies(200, CertificateReply, "The certificate"))
async def get_certificate(node: ActingNode, service: str) -> Response:
    """What a service shows, by its name or id, and what is wrong with it."""
    return JSONResponse(node.certificate(service).as_json(time.time()))


@router.put(
    "/v1/certificates/{service}",
    responses=replies(200, CertificateReply, "It is shown from the next handshake on"),
    openapi_extra=body_schema(CertificateBody),
)
async def put_certificate(
    node: ActingNode,
    actor: Actor,
    service: str,
    query: LabelParams,
    body: Annotated[Any, Depends(body_of(CertificateBody))],
) -> Response:
    """Upload a certificate. It is examined and tried before it is shown; one that fails changes nothing.

    With a label it is a further one, shown to clients that ask for a name in it.
    """
    view = await node.put_certificate(service, body.certificate, body.key, actor=actor, label=query.label)
    return JSONResponse(view.as_json(time.time()))


@router.delete("/v1/certificates/{service}", status_code=204, responses=replies(204, None, "Forgotten"))
async def delete_certificate(node: ActingNode, actor: Actor, service: str, query: LabelParams) -> Response:
    """Forget an uploaded certificate: what lies in `certs_dir`, or a self-signed one, takes its place."""
    await node.delete_certificate(service, actor=actor, label=query.label)
    return Response(status_code=204)
