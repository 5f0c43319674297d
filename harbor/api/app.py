"""The application: every route, every error a problem, and the description of it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Receive, Scope, Send

import harbor
from harbor.api import backends, bindings, certificates, docs, metrics, node, refusals, services, sessions
from harbor.api.events import Readers
from harbor.api.gate import WHOIS
from harbor.api.gateway import routes as gateway
from harbor.api.gateway.standing import Standing
from harbor.api.problem import Problem

if TYPE_CHECKING:
    from harbor.node import Node

ROUTERS: Final = tuple(
    part.router for part in (services, backends, bindings, certificates, sessions, node, metrics, docs, gateway)
)
DESCRIPTION: Final = (
    "A node leases TCP and UDP ports to services and forwards what arrives there to their backends. "
    "Collections are plain arrays, paged with `limit` and `after`; the `Link` header leads to the next page. "
    "Every refusal is an `application/problem+json` with a stable `code`."
)


class Surfaces:
    """The native API, and beside it the broker, whose documents and rules are its own; told apart by the path."""

    def __init__(self, native: ASGIApp, broker: ASGIApp) -> None:
        self._native = native
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._broker if refusals.surface(scope["path"]) == "v2" else self._native
        await app(scope, receive, send)


def build_app(acting: Node, readers: Readers, standing: Standing) -> FastAPI:
    """The API of ``acting``.

    ``readers`` ends its event streams when the server stops, ``standing`` opens the gateway.
    """
    app = FastAPI(
        title="Harbor",
        version=harbor.__version__,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    refusals.register(app)
    app.state.node = acting
    app.state.readers = readers
    app.state.standing = standing
    app.state.api_routes = [route for router in ROUTERS for route in router.routes]
    app.state.openapi = describe(app)
    return app


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 description, with problems in place of the framework's own error shapes."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    schemas = document["components"]["schemas"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem_schema.pop("$defs")
    schemas[Problem.__name__] = problem_schema
    bearers = {"admin": "the text of admin.token", "binding": "the token of a binding of this service"}
    document["components"]["securitySchemes"] = {
        **{name: {"type": "http", "scheme": "bearer", "description": text} for name, text in bearers.items()},
        "gateway": {"type": "apiKey", "in": "header", "name": "X-VCAP-Service-Token"},
    }
    document["security"] = [{"admin": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if refusals.surface(path) == "gateway":
                operation["security"] = [{"gateway": []}]
            elif path == WHOIS or path.startswith("/v1/services/{service}/backends"):
                operation["security"] = [{"admin": []}, {"binding": []}]
    return document
