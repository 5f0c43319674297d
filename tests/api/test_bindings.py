from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from harbor.api import replies
from support.running_api import Api


@pytest.fixture
async def bindings(api: Api) -> str:
    await api.tcp("POST", "/v1/services", {"name": "my-port"})
    return "/v1/services/my-port/bindings"


async def test_binding_gives_credentials_and_a_token(api: Api, bindings: str) -> None:
    service = (await api.tcp("GET", "/v1/services/my-port")).body
    made = await api.tcp("POST", bindings, {"app": "web"})
    assert (made.status, made.headers["Location"]) == (201, f"{bindings}/web")
    assert list(made.body) == ["id", "service", "service_id", "app", "created", "credentials", "token"]
    assert made.body["credentials"] == {
        "hostname": "127.0.0.1",
        "host": "127.0.0.1",
        "port": service["port"],
        "name": service["id"],
        "node_id": "harbor_node_1",
        "int_port": 4100,
    }
    replies.TokenReply.model_validate(made.body, strict=True)
    for ref in ("web", made.body["id"]):
        assert (await api.tcp("GET", f"/v1/services/{service['id']}/bindings/{ref}")).body == made.body


async def test_bindings_are_listed_by_app_without_tokens(api: Api, bindings: str) -> None:
    made = [(await api.tcp("POST", bindings, {"app": app})).body for app in ("web", "cron", "worker")]
    listed = await api.tcp("GET", bindings)
    assert [one["app"] for one in listed.body] == ["cron", "web", "worker"]
    assert not [one for one in made if one["token"] in listed.text]
    for one in listed.body:
        replies.BindingReply.model_validate(one, strict=True)
    first = await api.tcp("GET", f"{bindings}?limit=2")
    following = first.headers["Link"].partition("<")[2].partition(">")[0]
    assert [one["app"] for one in (await api.tcp("GET", following)).body] == ["worker"]


async def test_the_environment_is_flat_and_all_text(api: Api, bindings: str) -> None:
    bound = (await api.tcp("POST", bindings, {"app": "web"})).body
    found = (await api.tcp("GET", "/v1/apps/web/env")).body
    assert list(found) == ["STACKATO_SERVICES", "VCAP_SERVICES", "STACKATO_HARBOR", "STACKATO_HARBOR_MY_PORT"]
    assert {type(value) for value in found.values()} == {str}
    assert json.loads(found["STACKATO_SERVICES"]) == {"my-port": bound["credentials"]}
    assert found["STACKATO_HARBOR"] == found["STACKATO_HARBOR_MY_PORT"] == "4100"
    await api.tcp("POST", "/v1/services", {"name": "udp-port"})
    await api.tcp("POST", "/v1/services/udp-port/bindings", {"app": "web"})
    found = (await api.tcp("GET", "/v1/apps/web/env")).body
    assert "STACKATO_HARBOR" not in found
    assert (found["STACKATO_HARBOR_MY_PORT"], found["STACKATO_HARBOR_UDP_PORT"]) == ("4100", "4101")


async def test_F01_fifty_repetitions_at_once_bind_once_with_one_token(api: Api, bindings: str) -> None:
    key = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(api.tcp("POST", bindings, {"app": "web"}, headers=key) for _ in range(50)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert len(api.node.bindings("my-port")) == 1


async def test_F02_the_same_key_for_another_binding_is_refused(api: Api, bindings: str) -> None:
    key = {"Idempotency-Key": "once"}
    await api.tcp("POST", "/v1/services", {"name": "other"})
    await api.tcp("POST", bindings, {"app": "web"}, headers=key)
    for path, app in ((bindings, "cron"), ("/v1/services/other/bindings", "web")):
        refused = await api.tcp("POST", path, {"app": app}, headers=key)
        assert (refused.status, refused.code) == (422, "idempotency_key_reused")
    assert [view.binding.app for view in api.node.bindings("my-port")] == ["web"]
    assert api.node.bindings("other") == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid"),
        ({"app": None}, 400, "invalid"),
        ({"app": 7}, 400, "invalid"),
        ({"app": ""}, 400, "name_invalid"),
        ({"app": "x" * 10_000}, 400, "name_invalid"),
        ({"app": "../x"}, 400, "name_invalid"),
        ({"app": "a\0b"}, 400, "name_invalid"),
        ({"app": "a\r\nb"}, 400, "name_invalid"),
        ({"app": "'; DROP TABLE bindings; --"}, 400, "name_invalid"),
        ({"app": "ümlaut"}, 400, "name_invalid"),
        ({"app": "web", "token": "mine"}, 400, "invalid"),
    ],
)
async def test_F07_an_app_that_is_none_is_refused(
    api: Api, bindings: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.tcp("POST", bindings, body)
    assert (answer.status, answer.code) == (status, code)
    assert api.node.bindings("my-port") == []


async def test_F03_unbinding_twice_or_what_is_unknown_is_404(api: Api, bindings: str) -> None:
    for path in (f"{bindings}/web", "/v1/services/nope/bindings/web"):
        assert (await api.tcp("DELETE", path)).status == 404
    await api.tcp("POST", bindings, {"app": "web"})
    assert (await api.tcp("DELETE", f"{bindings}/web")).status == 204
    again = await api.tcp("DELETE", f"{bindings}/web")
    assert (again.status, again.code) == (404, "binding_not_found")
    gone = await api.tcp("GET", "/v1/apps/web/env")
    assert (gone.status, gone.code) == (404, "app_not_found")


async def test_names_that_collide_as_variables_are_refused(api: Api, bindings: str) -> None:
    await api.tcp("POST", "/v1/services", {"name": "My.Port"})
    await api.tcp("POST", bindings, {"app": "web"})
    refused = await api.tcp("POST", "/v1/services/My.Port/bindings", {"app": "web"})
    assert (refused.status, refused.code) == (409, "variables_collide")
    assert "STACKATO_HARBOR_MY_PORT" in refused.body["detail"]


async def test_a_bound_service_is_deleted_by_force_only(api: Api, bindings: str) -> None:
    await api.tcp("POST", bindings, {"app": "web"})
    for query in ("", "?force=false"):
        refused = await api.tcp("DELETE", f"/v1/services/my-port{query}")
        assert (refused.status, refused.code) == (409, "service_bound")
        assert "web" in refused.body["detail"]
    assert (await api.tcp("DELETE", "/v1/services/my-port?force=maybe")).status == 400
    assert (await api.tcp("DELETE", "/v1/services/my-port?force=true")).status == 204
    assert (api.names, api.node.ports().used) == ([], {})
    assert (await api.tcp("GET", "/v1/apps/web/env")).status == 404


async def test_the_feed_tells_who_was_bound_and_let_go(api: Api, bindings: str) -> None:
    bound = (await api.unix("POST", bindings, {"app": "web"})).body
    await api.tcp("DELETE", f"{bindings}/web")
    told = [event for event in (await api.tcp("GET", "/v1/events")).body if event["kind"].startswith("app.")]
    assert [event["kind"] for event in told] == ["app.bound", "app.unbound"]
    for event in told:
        assert (event["service"], event["details"]) == ("my-port", {"app": "web", "binding": bound["id"]})
        assert bound["token"] not in json.dumps(event)
    assert told[0]["actor"].startswith("unix:uid=")
    assert told[1]["actor"] == "token:admin"
