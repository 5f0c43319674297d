from __future__ import annotations

from typing import Any

import pytest

from support.running_api import Api, until


@pytest.fixture
async def service(api: Api) -> str:
    await api.tcp("POST", "/v1/services", {"name": "a"})
    return "/v1/services/a/backends"


async def test_put_registers_then_renews(api: Api, service: str) -> None:
    body = {"host": "127.0.0.1", "port": 8080, "ttl": 30, "instance": "web.1"}
    first = await api.tcp("PUT", f"{service}/one", body)
    again = await api.tcp("PUT", f"{service}/one", body)
    assert (first.status, again.status) == (201, 200)
    assert {name: again.body[name] for name in body} == body
    assert again.body["state"] == "up"
    assert 0 < again.body["expires_in"] <= 30


async def test_backends_are_listed_in_queue_order(api: Api, service: str) -> None:
    for name in ("z", "a", "m"):
        await api.tcp("PUT", f"{service}/{name}", {"host": "127.0.0.1", "port": 8080})
    listed = await api.tcp("GET", service)
    assert [backend["id"] for backend in listed.body] == ["z", "a", "m"]
    assert "ttl" not in listed.body[0]


async def test_a_drained_backend_shows_it(api: Api, service: str) -> None:
    await api.tcp("PUT", f"{service}/one", {"host": "127.0.0.1", "port": 8080})
    drained = await api.tcp("POST", f"{service}/one/drain")
    assert (drained.status, drained.body["state"]) == (200, "draining")


async def test_a_removed_backend_is_gone(api: Api, service: str) -> None:
    await api.tcp("PUT", f"{service}/one", {"host": "127.0.0.1", "port": 8080})
    assert (await api.tcp("DELETE", f"{service}/one")).status == 204
    twice = await api.tcp("DELETE", f"{service}/one")
    assert (twice.status, twice.code) == (404, "backend_not_found")
    await until(lambda: api.node.service("a").backends == ())  # one without sessions is soon done draining


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"host": None}, "host"),
        ({"host": 5}, "host"),
        ({"host": ""}, "host"),
        ({"port": "8080"}, "port"),
        ({"port": 0}, "port"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": -5}, "ttl"),
        ({"ttl": "30"}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"instance": 1}, "instance"),
        ({"weight": 0}, "weight"),
        ({"weight": 257}, "weight"),
        ({"weight": True}, "weight"),
        ({"weight": "1"}, "weight"),
        ({"hots": "x"}, "hots"),
    ],
)
async def test_a_wrong_member_is_named(api: Api, service: str, change: dict[str, Any], field: str) -> None:
    answer = await api.tcp("PUT", f"{service}/one", {"host": "127.0.0.1", "port": 8080} | change)
    assert (answer.status, answer.code) == (400, "invalid")
    assert [error["field"] for error in answer.body["errors"]] == [field]


async def test_a_weight_is_shown_unless_it_is_one(api: Api, service: str) -> None:
    body = {"host": "127.0.0.1", "port": 8080}
    assert "weight" not in (await api.tcp("PUT", f"{service}/one", body | {"weight": 1})).body
    assert (await api.tcp("PUT", f"{service}/two", body | {"weight": 3})).body["weight"] == 3


async def test_the_refusal_of_the_node_reaches_the_client(api: Api, service: str) -> None:
    answer = await api.tcp("PUT", f"{service}/one", {"host": "192.0.2.1", "port": 8080})
    assert (answer.status, answer.code) == (403, "backend_not_allowed")
    assert "backends.allow" in answer.body["detail"]
