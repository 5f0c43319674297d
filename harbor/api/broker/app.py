"""The broker as an application of its own, with its own shape of errors and its own description, below ``/v2``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

import harbor
from harbor.api import refusals
from harbor.api.broker.bindings import Bindings
from harbor.api.broker.headers import check_version, noted
from harbor.api.broker.instances import Instances
from harbor.api.broker.operations import Operations
from harbor.api.broker.requests import BindBody, ProvisionBody, UpdateBody, check_ids
from harbor.api.broker.routes import BINDING, DESCRIPTION_PATH, INSTANCE, router
from harbor.errors import HarborError

if TYPE_CHECKING:
    from harbor.config import Broker
    from harbor.node import Node

BODIES: Final[dict[tuple[str, str], type[BaseModel]]] = {
    (INSTANCE, "put"): ProvisionBody,
    (INSTANCE, "patch"): UpdateBody,
    (BINDING, "put"): BindBody,
}
DESCRIPTION: Final = (
    "The Open Service Broker API 2.17 of a Harbor node. Every operation is complete when it is answered. A refusal is "
    "`{error, description}`; `error` is a stable word."
)


def build_broker(node: Node, config: Broker, api_url: str) -> ASGIApp:
    """The broker of ``node``. ``api_url`` is where the instances of apps reach this node's API."""
    app = FastAPI(
        title="Harbor service broker",
        version=harbor.__version__,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(router)
    refusals.register(app)
    app.state.api_routes = list(router.routes)
    operations = Operations()
    app.state.instances = Instances(node, config.quotas, operations)
    app.state.bindings = Bindings(node, app.state.instances, operations)
    app.state.api_url = api_url
    return Envelope(app, describe(app))


class Envelope:
    """What the specification puts around every request: the version is checked, the identities are taken along."""

    def __init__(self, app: ASGIApp, description: dict[str, Any]) -> None:
        self._app = app
        self._description = description

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == DESCRIPTION_PATH and scope["method"] == "GET":
            await JSONResponse(self._description)(scope, receive, send)
            return
        try:
            check_version(scope["headers"])
            check_ids(scope)
            scope["harbor.noted"] = noted(scope["headers"])
        except HarborError as exc:
            await refusals.refusal(scope, exc)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 description."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    inputs: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in BODIES.values()]
    _, bodies = models_json_schema(inputs, ref_template="#/components/schemas/{model}")
    schemas = document["components"]["schemas"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas |= bodies["$defs"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation.setdefault("parameters", []).extend(_HEADERS)
            if (path, method) in BODIES:
                reference = {"$ref": f"#/components/schemas/{BODIES[path, method].__name__}"}
                content = {"application/json": {"schema": reference}}
                operation["requestBody"] = {"required": True, "content": content}
    document["components"]["securitySchemes"] = {"platform": {"type": "http", "scheme": "basic"}}
    document["security"] = [{"platform": []}]
    return document


_HEADERS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "X-Broker-API-Version",
        "in": "header",
        "required": True,
        "schema": {"type": "string", "pattern": r"^2\.(1[3-9]|[2-9][0-9])$"},
        "example": "2.17",
    },
    {
        "name": "X-Broker-API-Originating-Identity",
        "in": "header",
        "required": False,
        "description": "for whom the platform asks: its name, and a JSON object in Base64",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Broker-API-Request-Identity",
        "in": "header",
        "required": False,
        "description": "comes back with the response",
        "schema": {"type": "string"},
    },
)
