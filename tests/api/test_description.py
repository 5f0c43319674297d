"""What the API says of itself is what it is: OpenAPI and the page for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

import harbor
from api.test_sessions import session
from harbor.api import replies
from harbor.api.app import ROUTERS
from harbor.model import Address
from harbor.model.policy import FIELDS
from support.running_api import StagedApi


@pytest.fixture
async def document(staged: StagedApi) -> dict[str, Any]:
    answer = await staged.tcp("GET", "/openapi.json")
    assert answer.status == 200
    return answer.body  # type: ignore[no-any-return]


def parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            yield from parts(member)


async def test_openapi_lists_exactly_the_routes(document: dict[str, Any]) -> None:
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    served = {
        (route.path, method)
        for router in ROUTERS
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
        if route.include_in_schema  # type: ignore[attr-defined]
    }
    assert described == served
    assert ("/v1/services/{service}/backends/{backend}/drain", "POST") in described


async def test_openapi_is_consistent(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == harbor.__version__
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    for part in parts(document):
        if isinstance(reference := part.get("$ref"), str):
            target = document
            for step in reference.removeprefix("#/").split("/"):
                target = target[step]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert operation["description"]
            assert "422" not in operation["responses"]


async def test_openapi_says_what_the_token_of_a_binding_opens(document: dict[str, Any]) -> None:
    open_to_bindings = [
        path
        for path, methods in document["paths"].items()
        if all({"binding": []} in operation.get("security", ()) for operation in methods.values())
    ]
    backends = "/v1/services/{service}/backends"
    assert open_to_bindings == [backends, f"{backends}/{{backend}}", f"{backends}/{{backend}}/drain", "/v1/whois"]


async def test_openapi_knows_every_policy(document: dict[str, Any]) -> None:
    for path, method in (("/v1/services", "post"), ("/v1/services/{service}", "patch")):
        body = document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
        assert set(FIELDS) <= set(body["properties"])
        assert body["additionalProperties"] is False
    assert set(replies.PolicyReply.model_fields) == set(FIELDS)


async def test_the_replies_are_as_described(staged: StagedApi) -> None:
    """The models that describe the replies refuse members that they do not know, so the two cannot drift apart."""
    await staged.tcp("POST", "/v1/services", {"name": "a"})
    body = {"host": "127.0.0.1", "port": 1, "ttl": 9, "instance": "x"}
    backend = await staged.tcp("PUT", "/v1/services/a/backends/one", body)
    staged.node.degraded["a"] = "why"
    view = session(1, "10.0.0.1", "one")
    staged.node.sessions_["1"] = (view, "a")
    staged.node.locals_["1"] = Address("127.0.0.1", 1)
    for model, answer in [
        (replies.BackendReply, backend.body),
        (replies.ServiceReply, (await staged.tcp("GET", "/v1/services/a")).body),
        (replies.SessionReply, (await staged.tcp("GET", "/v1/sessions/1")).body),
        (replies.WhoisReply, (await staged.tcp("GET", "/v1/whois?local=127.0.0.1:1")).body),
        (replies.PortsReply, (await staged.tcp("GET", "/v1/ports")).body),
        (replies.EventReply, (await staged.tcp("GET", "/v1/events")).body[0]),
        (replies.HealthReply, (await staged.tcp("GET", "/readyz")).body),
        (replies.PolicyReply, staged.node.service("a").policy.as_json()),
    ]:
        model.model_validate(answer, strict=True)


async def test_the_page_for_people_needs_nothing_from_elsewhere(staged: StagedApi, document: dict[str, Any]) -> None:
    page = await staged.tcp("GET", "/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in page.text
    assert "<script" not in page.text
    assert not re.findall(r'(?:src|href)="(?!/openapi\.json")', page.text)
    assert "'sha256-" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
