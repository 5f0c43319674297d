"""Every refusal in the shape of the protocol that its path belongs to."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from harbor.api.broker import refusals as broker
from harbor.api.gateway import errors as gateway
from harbor.api.problem import fields_invalid, problem
from harbor.errors import HarborError, NotFound
from harbor.policy.naming import shown


def surface(path: str) -> str:
    """The first step of a path: which protocol is spoken there."""
    return path[1:].partition("/")[0]


def refusal(scope: Scope, error: HarborError, headers: Mapping[str, str] | None = None) -> Response:
    """The reply that says why."""
    match surface(scope["path"]):
        case "gateway":
            return gateway.refusal(error, headers)
        case "v2":
            return broker.refusal(error, scope, headers)
    return problem(error, headers)


def register(app: FastAPI) -> None:
    """Let every error of ``app`` leave in the shape of its protocol."""
    app.add_exception_handler(HarborError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _by_framework)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HarborError)
    return refusal(request.scope, exc)


async def _invalid(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    return refusal(request.scope, fields_invalid(exc))


async def _by_framework(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    path = shown(request.scope["path"])
    if exc.status_code == 405:
        allowed = ", ".join(sorted(_methods(request)))
        message = f"{request.method} is not possible on {path}; possible: {allowed}"
        error = HarborError(message, code="method_not_allowed", status=405)
        return refusal(request.scope, error, {"Allow": allowed})
    if exc.status_code == 404:
        listed = "/v2/openapi.json" if surface(request.scope["path"]) == "v2" else "/docs"
        return refusal(request.scope, NotFound(f"there is nothing at {path}; {listed} lists what there is"))
    return refusal(request.scope, HarborError(str(exc.detail), code="invalid", status=exc.status_code))


async def _unexpected(request: Request, _exc: Exception) -> Response:
    return refusal(request.scope, HarborError("something went wrong inside the node; its log has the details"))


def _methods(request: Request) -> set[str]:
    """The methods of every route on this path; the framework's own Allow header names the first route's only."""
    found: set[str] = set()
    for route in request.app.state.api_routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= route.methods or set()
    return found
