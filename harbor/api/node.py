"""The node itself: what it is, its ports, what happened, whether it works."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from starlette.responses import JSONResponse, Response

from harbor.api import pages
from harbor.api.context import ActingNode
from harbor.api.events import EventStream
from harbor.api.replies import EventReply, HealthReply, PortsReply, replies
from harbor.api.requests import LARGEST_ID, EventParams
from harbor.errors import Invalid
from harbor.model.views import event_json

router = APIRouter(tags=["node"])


@router.get("/v1/node", responses=replies(200, dict[str, Any], "The node"))
async def get_node(request: Request, node: ActingNode) -> Response:
    """What the node is, how busy it is, and what troubles it; `client` is from where it is asked, if over TCP."""
    client = request.client.host if request.client is not None else None
    return JSONResponse({**node.describe(), "client": client or None})


@router.get("/v1/ports", responses=replies(200, PortsReply, "The ports"))
async def get_ports(node: ActingNode) -> Response:
    """The ports this node owns and what each that is not free is doing."""
    return JSONResponse(node.ports().as_json())


@router.get("/v1/events", responses=replies(200, list[EventReply], "Events, oldest first; with SSE as they happen"))
async def list_events(
    request: Request,
    node: ActingNode,
    query: EventParams,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Who did what. The newest events or those `after` an id; with `Accept: text/event-stream` a live feed."""
    if "text/event-stream" in accept.lower():
        after = query.after if last_event_id is None else _event_id(last_event_id)
        return EventStream(node.events, after, request.app.state.readers)
    # One more than asked tells whether a further page exists; the newest events have none.
    events = node.events.recent(query.after, query.limit + (query.after is not None))
    shown = events[: query.limit]
    following = shown[-1].id if len(events) > len(shown) else None
    return pages.page(request, [event_json(event) for event in shown], following)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", responses=replies(200, HealthReply, "The process answers"))
async def get_health(node: ActingNode) -> Response:
    """Whether the process answers at all. Needs no token.

    `warnings` tell that its event loop was late within the last minute, by more than 0.1 s.
    """
    warnings = node.remarks()
    return JSONResponse({"status": "ok", **({"warnings": warnings} if warnings else {})})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=replies(200, HealthReply, "The node can do its work", 503))
async def get_readiness(request: Request, node: ActingNode) -> Response:
    """Whether the node can take changes, and what keeps it from that. Needs no token.

    `warnings` are troubles with others, which leave the node at work: its gateway's cloud controller is away.
    """
    problems, warnings = node.problems(), request.app.state.standing.remarks()
    body: dict[str, Any] = {"status": "not ready", "problems": problems} if problems else {"status": "ready"}
    if warnings:
        body["warnings"] = warnings
    return JSONResponse(body, status_code=503 if problems else 200)


def _event_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text[:20]) > LARGEST_ID:
        raise Invalid("Last-Event-ID must be the id of an event, a whole number")
    return int(text)
