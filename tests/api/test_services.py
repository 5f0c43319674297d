from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from harbor.model import Service, ServiceView
from harbor.model.policy import FIELDS
from support.running_api import FIRST_PORT, LAST_PORT, RESERVED_PORT, Api


async def test_a_created_service_can_be_seen_by_name_and_id(api: Api) -> None:
    made = await api.tcp("POST", "/v1/services", {"name": "my-port"})
    assert made.status == 201
    assert made.headers["Location"] == "/v1/services/my-port"
    assert made.body["port"] in range(FIRST_PORT, LAST_PORT + 1)
    assert made.body["int_port"] == 4100
    by_name = await api.unix("GET", "/v1/services/my-port")
    by_id = await api.unix("GET", f"/v1/services/{made.body['id']}")
    assert by_name.body == by_id.body == made.body


async def test_two_lists_of_ten_thousand_networks_are_taken(api: Api) -> None:
    long = [f"2001:db8:{number:x}:0:8000::/66" for number in range(10_000)]
    made = await api.tcp("POST", "/v1/services", {"name": "a", "allow": long, "deny": long})
    assert (made.status, made.body["policy"]["deny"]) == (201, long)
    changed = await api.tcp("PATCH", "/v1/services/a", {"allow": long[:1], "deny": long})
    assert (changed.status, changed.body["policy"]["allow"]) == (200, long[:1])
    more = await api.tcp("PATCH", "/v1/services/a", {"allow": [*long, "::1"]})
    assert (more.status, more.code) == (400, "invalid")


async def test_everything_that_a_wish_may_say_arrives(api: Api) -> None:
    wish = {
        "name": "udp-game",
        "protocol": "both",
        "port": FIRST_PORT + 7,
        "exposure": "public",
        "tls": "off",
        "plan": "udp",
        "idle_timeout": 30,
        "max_sessions": 5,
        "removal": "cut",
    }
    made = await api.tcp("POST", "/v1/services", wish)
    assert made.status == 201
    shown = made.body | made.body["policy"]
    assert {name: shown[name] for name in wish} == wish


async def test_members_that_are_null_are_members_that_are_absent(api: Api) -> None:
    made = await api.tcp("POST", "/v1/services", {"name": "a", "port": None, "idle_timeout": None, "removal": None})
    assert made.status == 201
    assert api.node.service("a").service.overrides == {}


async def test_without_a_key_a_name_in_use_is_refused(api: Api) -> None:
    await api.tcp("POST", "/v1/services", {"name": "a"})
    again = await api.tcp("POST", "/v1/services", {"name": "a"})
    assert (again.status, again.code) == (409, "service_exists")


async def test_F01_a_repeated_request_is_answered_as_the_first_time(api: Api) -> None:
    key = {"Idempotency-Key": "once"}
    first = await api.tcp("POST", "/v1/services", {"name": "a", "protocol": "tcp"}, headers=key)
    again = await api.unix("POST", "/v1/services", {"protocol": "tcp", "name": "a"}, headers=key)
    assert (first.status, again.status) == (201, 201)
    assert again.text == first.text
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert len(api.node.ports().used) == 1


async def test_F01_fifty_repetitions_at_once_lease_one_port(api: Api) -> None:
    key = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(api.tcp("POST", "/v1/services", {"name": "a"}, headers=key) for _ in range(50)),
    )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert len(api.node.ports().used) == 1


@pytest.mark.parametrize("other", [{"name": "b"}, {"name": "a", "port": 80}, {"name": "a", "idle_timeout": 9}])
async def test_F02_the_same_key_for_another_request_is_refused(api: Api, other: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "once"}
    first = await api.tcp("POST", "/v1/services", {"name": "a"}, headers=key)
    refused = await api.tcp("POST", "/v1/services", other, headers=key)
    assert (refused.status, refused.code) == (422, "idempotency_key_reused")
    assert [view.as_json() for view in api.node.services()] == [first.body]
    assert len(api.node.ports().used) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "é"])
async def test_a_key_that_is_no_key_is_refused(api: Api, key: str) -> None:
    answer = await api.tcp("POST", "/v1/services", {"name": "a"}, headers={"Idempotency-Key": key})
    assert (answer.status, answer.code) == (400, "invalid")
    assert api.names == []


async def test_F03_deleting_what_is_unknown_or_gone_is_404_and_frees_once(api: Api) -> None:
    unknown = await api.tcp("DELETE", "/v1/services/a")
    assert (unknown.status, unknown.code) == (404, "service_not_found")
    made = await api.tcp("POST", "/v1/services", {"name": "a"})
    assert (await api.tcp("DELETE", "/v1/services/a")).status == 204
    twice = await api.tcp("DELETE", "/v1/services/a")
    assert (twice.status, twice.code) == (404, "service_not_found")
    assert list(api.node.ports().resting) == [made.body["port"]]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"queue": {"size": 0}}, "queue.size"),
        ({"allow": ["10.0.0.0/8", "nonsense"]}, "allow[1]"),
        ({"sessions_per_second": {"burst": 3}}, "sessions_per_second.rate"),
        ({"queue": 5}, "queue"),
    ],
)
async def test_what_is_wrong_in_a_policy_is_named_by_its_path(api: Api, wrong: dict[str, Any], field: str) -> None:
    await api.unix("POST", "/v1/services", {"name": "shop"})
    answer = await api.unix("PATCH", "/v1/services/shop", wrong)
    assert [error["field"] for error in answer.body["errors"]] == [field]
    assert answer.body["detail"].startswith(f"{field}: ")


async def test_a_policy_changes_and_returns_to_the_default(api: Api) -> None:
    await api.tcp("POST", "/v1/services", {"name": "a", "max_sessions": 5})
    changed = await api.tcp("PATCH", "/v1/services/a", {"idle_timeout": 30})
    assert changed.status == 200
    assert changed.body["policy"]["idle_timeout"] == 30
    back = await api.tcp("PATCH", "/v1/services/a", {"max_sessions": None})
    assert back.body["policy"]["max_sessions"] == 10_000
    assert back.body["policy"]["idle_timeout"] == 30


@pytest.mark.parametrize("name", ["name", "protocol", "port", "exposure", "tls", "plan"])
async def test_what_makes_a_service_does_not_change(api: Api, name: str) -> None:
    await api.tcp("POST", "/v1/services", {"name": "a"})
    answer = await api.tcp("PATCH", "/v1/services/a", {name: "x"})
    assert (answer.status, answer.code) == (400, "invalid")
    assert f"{name} is fixed" in answer.body["detail"]


@pytest.mark.parametrize("field", FIELDS)
async def test_every_policy_field_is_checked(api: Api, field: str) -> None:
    answer = await api.tcp("POST", "/v1/services", {"name": "a", field: "x"})
    assert (answer.status, answer.code) == (400, "invalid")
    assert [error["field"] for error in answer.body["errors"]] == [field]


async def test_a_typing_error_is_told_with_what_was_meant(api: Api) -> None:
    answer = await api.tcp("POST", "/v1/services", {"name": "a", "idle_timout": 5})
    assert answer.body["errors"] == [
        {"field": "idle_timout", "message": "there is no such member; did you mean idle_timeout?"}
    ]


@pytest.mark.parametrize(
    ("port", "status", "code"),
    [
        (0, 400, "invalid"),
        (-1, 400, "invalid"),
        (65536, 400, "invalid"),
        ("80", 400, "invalid"),
        (80.0, 400, "invalid"),
        (True, 400, "invalid"),
        ([80], 400, "invalid"),
        (10**18, 400, "invalid"),
        (22, 400, "port_out_of_range"),
        ("below", 400, "port_out_of_range"),
        ("reserved", 409, "port_reserved"),
        ("leased", 409, "port_leased"),
        ("resting", 409, "port_resting"),
    ],
)
async def test_F12_a_port_that_cannot_be_had_is_refused(api: Api, port: object, status: int, code: str) -> None:
    await api.tcp("POST", "/v1/services", {"name": "holder", "port": FIRST_PORT + 1})
    await api.tcp("POST", "/v1/services", {"name": "gone", "port": FIRST_PORT + 2})
    await api.tcp("DELETE", "/v1/services/gone")
    named = {"below": FIRST_PORT - 1, "reserved": RESERVED_PORT, "leased": FIRST_PORT + 1, "resting": FIRST_PORT + 2}
    wanted = named.get(port, port) if isinstance(port, str) else port
    answer = await api.tcp("POST", "/v1/services", {"name": "a", "port": wanted})
    assert (answer.status, answer.code) == (status, code)
    assert api.names == ["holder"]


async def test_F12_the_port_of_the_api_is_not_leased(api: Api) -> None:
    answer = await api.tcp("POST", "/v1/services", {"name": "a", "port": api.port})
    assert answer.status in (400, 409)
    assert api.names == []


async def test_pages_follow_one_another(api: Api) -> None:
    names = ["a", "B", "c-1", "c.2", "d"]
    for name in names:
        await api.tcp("POST", "/v1/services", {"name": name})
    seen, path, pages = [], "/v1/services?limit=2", 0
    while path:
        answer = await api.tcp("GET", path)
        seen += [service["name"] for service in answer.body]
        pages += 1
        link = answer.headers.get("Link")
        path = "" if link is None else link.removeprefix("<").removesuffix('>; rel="next"')
    assert seen == sorted(names)
    assert pages == 3


async def test_F13_a_page_of_ten_thousand_services_looks_at_its_own_only(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.tcp("POST", "/v1/services", {"name": "s"})
    registry = api.node._parts.registry
    (one,) = registry.services()
    for number in range(10_000):
        service = dataclasses.replace(one, id=f"id{number}", name=f"s{number:04}", port=0, int_port=0)
        registry.add(service, registry.policy(one.id))
    looked: list[str] = []
    look = api.node._views.service

    def looking(service: Service) -> ServiceView:
        looked.append(service.name)
        return look(service)

    monkeypatch.setattr(api.node._views, "service", looking)
    answer = await api.tcp("GET", "/v1/services?limit=50&after=s4999")
    assert [service["name"] for service in answer.body] == [f"s{number}" for number in range(5000, 5050)] == looked
    for number in range(10_000):
        registry.remove(f"id{number}")


async def test_a_page_goes_on_where_a_deleted_service_stood(api: Api) -> None:
    for name in "abc":
        await api.tcp("POST", "/v1/services", {"name": name})
    await api.tcp("DELETE", "/v1/services/b")
    answer = await api.tcp("GET", "/v1/services?after=b")
    assert [service["name"] for service in answer.body] == ["c"]


@pytest.mark.parametrize("path", ["/v1/services", "/v1/sessions", "/v1/events"])
@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=1001", "limit=x", "limit=", "limt=5", "limit=1e3"])
async def test_a_page_that_cannot_be_is_refused(api: Api, path: str, query: str) -> None:
    answer = await api.tcp("GET", f"{path}?{query}")
    assert (answer.status, answer.code) == (400, "invalid")
    assert answer.body["errors"][0]["field"] == query.partition("=")[0]


async def test_tls_to_backends_is_set_shown_and_changed_member_by_member(api: Api) -> None:
    wish = {"name": "inner", "protocol": "tcp", "backend_tls": {"server_name": "app.internal"}}
    made = await api.tcp("POST", "/v1/services", wish)
    assert made.body["backend_tls"] == {"verify": True, "server_name": "app.internal"}
    changed = await api.tcp("PATCH", "/v1/services/inner", {"backend_tls": {"verify": False}})
    assert changed.body["backend_tls"] == {"verify": False, "server_name": "app.internal"}
    back = await api.tcp("PATCH", "/v1/services/inner", {"backend_tls": {"verify": None, "server_name": None}})
    assert back.body["backend_tls"] == {"verify": True, "server_name": None}
    off = await api.tcp("PATCH", "/v1/services/inner", {"backend_tls": None})
    assert "backend_tls" not in off.body
    for wrong, code in (
        ({"verify": "yes"}, "invalid"),
        ({"colour": "blue"}, "invalid"),
        ({"server_name": "a b"}, "backend_tls_invalid"),
    ):
        refused = await api.tcp("PATCH", "/v1/services/inner", {"backend_tls": wrong})
        assert (refused.status, refused.code) == (400, code)
    refused = await api.tcp("POST", "/v1/services", {"name": "udp-inner", "backend_tls": {}})
    assert (refused.status, refused.code) == (400, "backend_tls_invalid")
