"""Live sessions: look at them, end them."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from harbor.api import pages
from harbor.api.context import ActingNode, Actor
from harbor.api.replies import KillReply, SessionReply, WhoisReply, replies
from harbor.api.requests import FilterParams, SessionFilter, SessionParams, WhoisParams
from harbor.config.values import address
from harbor.errors import Invalid, NotFound, Refused
from harbor.model import Address, SessionQuery
from harbor.model.views import session_json, whois_json
from harbor.policy.admission import parse_host
from harbor.policy.naming import shown

router = APIRouter(tags=["sessions"])


@router.get("/v1/sessions", responses=replies(200, list[SessionReply], "Live sessions"))
async def list_sessions(request: Request, node: ActingNode, query: SessionParams) -> Response:
    """Live TCP sessions and UDP flows, in the order of their ids."""
    after = None if query.after is None else _order(query.after)
    found, more = pages.part(node.sessions(_query(query)), lambda pair: _order(pair[0].id), after, query.limit)
    following = found[-1][0].id if more else None
    return pages.page(request, [session_json(session, name) for session, name in found], following)


@router.get("/v1/whois", responses=replies(200, WhoisReply, "The client"))
async def whois(node: ActingNode, query: WhoisParams) -> Response:
    """Who the client of a connection is that a backend sees as coming from this node."""
    local, backend = plain(query.local), None if query.backend is None else plain(query.backend)
    found = [
        (session, name)
        for session, name in await node.whois(local, SessionQuery(service_id=query.service))
        if query.protocol in (None, session.protocol.value) and backend in (None, session.backend)
    ]
    if not found:
        raise NotFound(
            f"no live session reaches a backend from {query.local}; ask for the address that the backend sees as its "
            "peer, while the connection lives",
            code="whois_unknown",
        )
    if len(found) > 1:
        raise Refused(
            f"{len(found)} sessions reach backends from {query.local}; say more: backend (the backend's own address), "
            "protocol or service",
            code="whois_ambiguous",
        )
    session, name = found[0]
    return JSONResponse(whois_json(query.local, session, name))


@router.delete("/v1/sessions", responses=replies(200, KillReply, "How many were ended"))
async def kill_sessions(node: ActingNode, actor: Actor, query: FilterParams) -> Response:
    """End the sessions that match; at least one of service, backend and client must be given."""
    if query.service is None and query.backend is None and query.client is None:
        raise Invalid("say which sessions: give service, backend or client (every client: 0.0.0.0/0 and ::/0)")
    return JSONResponse({"killed": node.kill(_query(query), actor=actor)})


@router.get("/v1/sessions/{session}", responses=replies(200, SessionReply, "The session"))
async def get_session(node: ActingNode, session: str) -> Response:
    """One live session."""
    for found, name in node.sessions(SessionQuery(session_id=session)):
        return JSONResponse(session_json(found, name))
    raise _no_session(session)


@router.delete("/v1/sessions/{session}", status_code=204, responses=replies(204, None, "Ended"))
async def kill_session(node: ActingNode, actor: Actor, session: str) -> Response:
    """End one session."""
    if not node.kill(SessionQuery(session_id=session), actor=actor):
        raise _no_session(session)
    return Response(status_code=204)


def plain(text: str) -> Address:
    """A checked address; an IPv4 address that a dual-stack socket shows as IPv6 is itself."""
    host, port = address(text)
    return Address(str(parse_host(host)), port)


def _query(wanted: SessionFilter) -> SessionQuery:
    return SessionQuery(service_id=wanted.service, backend_id=wanted.backend, client=wanted.client)


def _order(session_id: str) -> tuple[int, str]:
    """Ids are counted up, so shorter ones are older."""
    return len(session_id), session_id


def _no_session(session_id: str) -> NotFound:
    return NotFound(f"there is no session {shown(session_id)}; it may have ended", code="session_not_found")
