"""The v1 gateway as a cloud controller of its time sees it: requests, replies, numbers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from api.test_bad_input import HOSTILE_IDS
from harbor.api import tokens
from harbor.api.strict_json import MAX_BODY
from support.backends import Backend, greeting
from support.running_api import FIRST_PORT, Answer, Api, Client, running_api, until

TOKEN = "a-long-random-text"
GATEWAY = f"gateway: {{token: {TOKEN}}}"
CONFIGURATIONS = "/gateway/v1/configurations"
ASKED = {"label": "harbor-1.0", "name": "debug-port", "email": "dev@example.com", "plan": "free", "version": "1.0"}


class Gateway:
    """A cloud controller's way to one node."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._client = Client(api.tcp.session, api.tcp.url, None)

    async def __call__(self, method: str, path: str = "", body: Any = None, **more: Any) -> Answer:
        headers = {"X-VCAP-Service-Token": TOKEN, "Content-Type": "application/json"} | more.pop("headers", {})
        return await self._client(method, CONFIGURATIONS + path, body, headers=headers, **more)

    async def provision(self, name: str = "debug-port", **more: Any) -> Answer:
        return await self("POST", "", ASKED | {"name": name} | more)

    async def made(self, name: str = "debug-port", **more: Any) -> str:
        """The id of a new service."""
        answer = await self.provision(name, **more)
        assert answer.status == 200, answer.text
        return str(answer.body["service_id"])

    async def bind(self, service_id: str, /, **more: Any) -> Answer:
        body = {"service_id": service_id, "label": "harbor-1.0", "email": "dev@example.com", "binding_options": {}}
        return await self("POST", f"/{service_id}/handles", body | more)

    async def unbind(self, service_id: str, handle_id: str, /, **more: Any) -> Answer:
        body = {"service_id": service_id, "handle_id": handle_id, "binding_options": {}} | more
        return await self("DELETE", f"/{service_id}/handles/{handle_id}", body)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, GATEWAY) as running:
        yield running


@pytest.fixture
def gateway(api: Api) -> Gateway:
    return Gateway(api)


def refused(answer: Answer, status: int, code: int, why: str | None = None) -> None:
    """The answer is a refusal of v1 with these numbers."""
    assert (answer.status, answer.body["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.body) == {"code", "description", "error"}
    assert answer.body["description"].isprintable()
    assert len(answer.text) < 6000
    if why is not None:
        assert answer.body["error"]["code"] == why


# The whole life of a port.


async def test_a_port_from_provision_to_unprovision(api: Api, gateway: Gateway) -> None:
    answer = await gateway.provision("debug-port")
    assert answer.status == 200
    service = api.node.service("debug-port").service
    assert answer.body == {
        "service_id": service.id,
        "configuration": {
            "name": "debug-port",
            "plan": "free",
            "version": "1.0",
            "protocol": "tcp",
            "exposure": "private",
        },
        "credentials": {
            "hostname": "127.0.0.1",
            "host": "127.0.0.1",
            "port": service.port,
            "name": service.id,
            "node_id": "harbor_node_1",
            "int_port": 4100,
        },
    }
    bound = await gateway.bind(service.id, app_id="17", binding_options={"x": [1]})
    assert bound.status == 200
    handle = bound.body["service_id"]
    assert handle != service.id
    assert bound.body["credentials"] == answer.body["credentials"]
    assert bound.body["configuration"]["data"] == {"binding_options": {"x": [1]}}
    assert api.node.binding(service.id, "17").binding.id == handle
    assert json.loads(api.node.app_environment("17")["STACKATO_SERVICES"]) == {"debug-port": answer.body["credentials"]}

    assert (await gateway.unbind(service.id, handle)).body == {}
    refused(await gateway.unbind(service.id, handle), 404, 30300, "binding_not_found")
    gone = await gateway("DELETE", f"/{service.id}")
    assert (gone.status, gone.body) == (200, {})
    assert api.names == []
    refused(await gateway("DELETE", f"/{service.id}"), 404, 30300, "service_not_found")
    refused(await gateway.bind(service.id), 404, 30300, "service_not_found")
    refused(await gateway.unbind(service.id, handle), 404, 30300, "service_not_found")


async def test_a_handle_lets_the_instances_of_its_app_register(api: Api, gateway: Gateway) -> None:
    service_id = await gateway.made()
    bound = await gateway.bind(service_id)
    backend = Backend(greeting(b"hello"))
    try:
        host, port = backend.address
        path = f"/v1/services/{service_id}/backends/one"
        app = Client(api.tcp.session, api.tcp.url, bound.body["configuration"]["token"])
        assert (await app("PUT", path, {"host": host, "port": port})).status == 201
        assert (await app("GET", "/v1/services")).code == "token_scope"
        reader, writer = await asyncio.open_connection("127.0.0.1", bound.body["credentials"]["port"])
        assert await reader.read(5) == b"hello"
        writer.close()
    finally:
        backend.close()
    await gateway.unbind(service_id, bound.body["service_id"])
    assert (await app("PUT", path, {"host": host, "port": port})).code == "token_revoked"


async def test_deleting_a_service_takes_its_handles_with_it(api: Api, gateway: Gateway) -> None:
    service_id = await gateway.made()
    handles = [(await gateway.bind(service_id)).body["service_id"] for _ in range(3)]
    assert len(set(handles)) == 3
    assert (await gateway("DELETE", f"/{service_id}")).status == 200
    assert all(api.node.find_binding(handle) is None for handle in handles)
    assert api.names == []


async def test_what_was_asked_is_kept_over_a_restart(tmp_path: Path) -> None:
    more = {"organization_guid": "org", "space_guid": "space", "unique_id": "u", "plan_option": {}, "provider": None}
    async with running_api(tmp_path, GATEWAY) as api:
        gateway = Gateway(api)
        service_id = await gateway.made(**more)
        handle = (await gateway.bind(service_id, app_id="3")).body["service_id"]
    async with running_api(tmp_path, GATEWAY) as api:
        gateway = Gateway(api)
        origin = api.node.service(service_id).service.origin
        assert (origin["platform"], origin["organization"], origin["space"]) == ("cf-v1", "org", "space")
        kept = {name: value for name, value in more.items() if value is not None}
        assert origin["request"] == ASKED | kept
        found = api.node.find_binding(handle)
        assert found is not None
        assert found.binding.origin["request"]["email"] == "dev@example.com"
        assert (await gateway.unbind(service_id, handle)).status == 200
        assert (await gateway("DELETE", f"/{service_id}")).status == 200


# Names, plans, options.


@pytest.mark.parametrize(
    ("name", "more", "protocol"),
    [
        ("debug-port", {}, "tcp"),
        ("udp-debug-port", {}, "udp"),
        ("both-debug-port", {}, "both"),
        ("multi", {}, "both"),
        ("udp-x", {"plan": None}, "udp"),
        ("udp-x", {"plan": ""}, "udp"),
        ("udp-x", {"plan": "tcp"}, "tcp"),
        ("x", {"plan": "both"}, "both"),
        ("udp-x", {"plan": "both", "plan_option": {"protocol": "tcp"}}, "tcp"),
        ("x", {"plan_option": None, "version": None, "email": None}, "tcp"),
    ],
)
async def test_the_protocol_follows_from_options_then_plan_then_name(
    gateway: Gateway, name: str, more: dict[str, Any], protocol: str
) -> None:
    answer = await gateway.provision(name, **more)
    assert answer.body["configuration"]["protocol"] == protocol
    assert answer.body["configuration"]["plan"] == (more.get("plan") or "free")


async def test_options_are_those_of_a_service(api: Api, gateway: Gateway) -> None:
    options = {"port": FIRST_PORT + 7, "exposure": "public", "idle_timeout": 60}
    answer = await gateway.provision(plan_option=options)
    assert answer.body["credentials"]["port"] == FIRST_PORT + 7
    assert api.node.service("debug-port").policy.idle_timeout == 60
    for wrong in ({"idle_timeout": -1}, {"nope": 1}, {"name": "x"}, {"plan": "tcp"}, {"port": "80"}):
        refused(await gateway.provision("y", plan_option=wrong), 400, 30001, "invalid")
    assert api.names == ["debug-port"]


async def test_a_name_that_is_taken_gets_a_suffix_and_keeps_its_meaning(api: Api, gateway: Gateway) -> None:
    for name in ("udp-x", "udp-" + "x" * 59):
        first, second = [(await gateway.provision(name)).body for _ in range(2)]
        assert first["service_id"] != second["service_id"]
        assert first["credentials"]["port"] != second["credentials"]["port"]
        assert first["configuration"]["name"] == name
        other = second["configuration"]["name"]
        assert other.startswith(name[:50].rstrip("x"))
        assert other != name
        assert len(other) <= 63
        assert second["configuration"]["protocol"] == "udp"
    assert len(api.names) == 4


async def test_credentials_of_a_public_service_show_the_outside(tmp_path: Path) -> None:
    node = "node: {host: 127.0.0.1, hostname: h.internal, ext_host: 203.0.113.5, ext_hostname: ports.example.com}"
    async with running_api(tmp_path, f"{GATEWAY}\n{node}") as api:
        shown = (await Gateway(api).provision()).body["credentials"]
        assert shown["hostname"] == "h.internal"
        assert (shown["ext_host"], shown["ext_hostname"]) == ("203.0.113.5", "ports.example.com")


@pytest.mark.parametrize(
    ("more", "code", "why"),
    [
        ({"label": "postgresql-9.1"}, 30002, "label_unknown"),
        ({"label": "harbor-2.0"}, 30002, "label_unknown"),
        ({"label": "harbor"}, 30001, "invalid"),
        ({"plan": "gold"}, 30003, "plan_unknown"),
        ({"version": "2.0"}, 30004, "version_unknown"),
    ],
)
async def test_what_is_not_offered_is_refused_by_its_number(
    api: Api, gateway: Gateway, more: dict[str, Any], code: int, why: str
) -> None:
    refused(await gateway.provision(**more), 400, code, why)
    assert api.names == []


async def test_an_app_may_be_bound_twice_and_may_have_no_name(api: Api, gateway: Gateway) -> None:
    """A cloud controller that lost an answer asks again; it gets one more handle, as it always did."""
    service_id = await gateway.made()
    first, second, odd = [(await gateway.bind(service_id, app_id=app)).body for app in ("web", "web", "an app/of mine")]
    assert first["configuration"]["app"] == "web"
    assert second["configuration"]["app"] == second["service_id"]
    assert odd["configuration"]["app"] == odd["service_id"]
    assert len(api.node.bindings(service_id)) == 3


# Who may, and when.


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", f"Bearer {TOKEN}", "é"])
async def test_K02_without_the_token_nothing_is_done(api: Api, gateway: Gateway, token: str | None) -> None:
    service_id = await gateway.made("kept")
    for method, path, body in (
        ("POST", "", ASKED),
        ("DELETE", f"/{service_id}", None),
        ("POST", f"/{service_id}/handles", {}),
        ("DELETE", f"/{service_id}/handles/x", {}),
    ):
        answer = await gateway(method, path, body, headers={"X-VCAP-Service-Token": token})
        refused(answer, 401, 30100, "unauthorized")
        assert TOKEN not in answer.text
        assert answer.headers["WWW-Authenticate"].startswith("X-VCAP-Service-Token")
    assert api.names == ["kept"]


async def test_K02_other_tokens_do_not_open_the_gateway_nor_its_token_anything_else(api: Api, gateway: Gateway) -> None:
    admin = {"Authorization": f"Bearer {api.token}", "X-VCAP-Service-Token": None}
    refused(await gateway("POST", "", ASKED, headers=admin), 401, 30100)
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Authorization": None, "X-VCAP-Service-Token": TOKEN}):
        assert (await api.tcp("GET", "/v1/services", headers=headers)).code == "unauthorized"


async def test_K02_guesses_at_the_gateways_token_close_the_gateway_and_nothing_else(api: Api, gateway: Gateway) -> None:
    wrong = {"X-VCAP-Service-Token": "wrong"}
    for _ in range(tokens.MOST_WRONG):
        refused(await gateway("POST", "", ASKED, headers=wrong), 401, 30100)
    answer = await gateway.provision()
    refused(answer, 429, 30100, "too_many_wrong_tokens")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await api.tcp("GET", "/v1/node")).status == 200
    assert api.names == []


async def test_K08_the_gateway_is_addressed_by_the_name_that_it_was_given(tmp_path: Path) -> None:
    named = f"{GATEWAY[:-1]}, url: 'https://harbor.example:7070'}}"
    async with running_api(tmp_path, named) as api:
        gateway = Gateway(api)
        assert (await gateway("POST", "", ASKED, headers={"Host": "harbor.example:7070"})).status == 200
        refused(await gateway("POST", "", ASKED, headers={"Host": "evil.example"}), 421, 30001, "host_unknown")


async def test_without_its_section_there_is_no_gateway(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for client in (Gateway(api), Client(api.unix.session, api.unix.url, None)):
            path = "" if isinstance(client, Gateway) else CONFIGURATIONS
            refused(await client("POST", path, ASKED), 404, 30300, "not_found")
        assert (await api.tcp("POST", CONFIGURATIONS, ASKED)).status == 404


async def test_services_of_others_are_none_of_its_business(api: Api, gateway: Gateway) -> None:
    made = (await api.tcp("POST", "/v1/services", {"name": "native"})).body
    native = (await api.tcp("POST", "/v1/services/native/bindings", {"app": "web"})).body
    service_id = await gateway.made("ours")
    for ref in (made["id"], "native", "ours"):
        refused(await gateway("DELETE", f"/{ref}"), 404, 30300, "service_not_found")
        refused(await gateway.bind(ref), 404, 30300, "service_not_found")
    refused(await gateway.unbind(made["id"], native["id"]), 404, 30300, "service_not_found")
    other = (await api.tcp("POST", "/v1/services/ours/bindings", {"app": "web"})).body
    for ref in (native["id"], other["id"], "web"):
        refused(await gateway.unbind(service_id, ref), 404, 30300, "binding_not_found")
    assert api.names == ["native", "ours"]
    assert len(api.node.bindings("ours")) == 1


# Retries and races.


async def test_F01_the_same_request_fifty_times_under_one_key_leases_one_port(api: Api, gateway: Gateway) -> None:
    key = {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(gateway("POST", "", ASKED, headers=key) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert api.names == ["debug-port"]


async def test_F01_fifty_requests_at_once_get_fifty_ports(api: Api, gateway: Gateway) -> None:
    answers = await asyncio.gather(*(gateway.provision() for _ in range(50)))
    assert len({answer.body["credentials"]["port"] for answer in answers}) == 50
    assert len({answer.body["credentials"]["int_port"] for answer in answers}) == 50
    assert len(api.names) == 50


async def test_F02_the_same_key_with_another_request_changes_nothing(api: Api, gateway: Gateway) -> None:
    key = {"Idempotency-Key": "k"}
    await gateway("POST", "", ASKED, headers=key)
    for other in (ASKED | {"name": "other"}, ASKED | {"plan": "udp"}, ASKED | {"space_guid": "s"}):
        refused(await gateway("POST", "", other, headers=key), 422, 31000, "idempotency_key_reused")
    assert api.names == ["debug-port"]


async def test_F03_of_fifty_deletions_one_does_it(api: Api, gateway: Gateway) -> None:
    service_id = await gateway.made()
    port = api.node.service(service_id).service.port
    answers = await asyncio.gather(*(gateway("DELETE", f"/{service_id}") for _ in range(50)))
    assert sorted(answer.status for answer in answers) == [200] + [404] * 49
    assert list(api.node.ports().resting) == [port]
    refused(await gateway("DELETE", f"/{service_id}"), 404, 30300)
    refused(await gateway("DELETE", "/never-was"), 404, 30300)


async def test_F03_of_fifty_unbindings_one_does_it(gateway: Gateway) -> None:
    service_id = await gateway.made()
    handle = (await gateway.bind(service_id)).body["service_id"]
    answers = await asyncio.gather(*(gateway.unbind(service_id, handle) for _ in range(50)))
    assert sorted(answer.status for answer in answers) == [200] + [404] * 49


async def send_and_leave(api: Api, path: str, body: Any) -> None:
    """Send a whole request, and hang up before it can be answered."""
    content = json.dumps(body).encode()
    head = (
        f"POST {CONFIGURATIONS}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-VCAP-Service-Token: {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head.encode() + content)
    writer.close()
    await writer.wait_closed()


async def test_F06_who_hangs_up_leaves_no_orphan(api: Api, gateway: Gateway) -> None:
    for _ in range(10):
        await send_and_leave(api, "", ASKED)

    def ended() -> bool:
        kinds = [event.kind for event in api.node.events.recent(0, 1000)]
        return kinds.count("service.created") == kinds.count("service.deleted") == 10

    await until(ended)
    assert api.names == []
    service_id = await gateway.made()
    await send_and_leave(
        api, f"/{service_id}/handles", {"service_id": service_id, "label": "harbor-1.0", "binding_options": {}}
    )
    await until(lambda: "app.unbound" in [event.kind for event in api.node.events.recent(0, 1000)])
    assert api.node.bindings(service_id) == []
    assert (await gateway("DELETE", f"/{service_id}")).status == 200
    assert api.node.ports().used == {}


async def test_G01_when_no_port_is_left_the_number_says_so(api: Api, gateway: Gateway) -> None:
    answers = await asyncio.gather(*(gateway.provision() for _ in range(120)))
    full = [answer for answer in answers if answer.status != 200]
    assert len(full) == 120 - 99
    for answer in full:
        refused(answer, 409, 31001, "ports_exhausted")
    assert len(api.names) == 99


# Bad input.


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
async def test_F07_no_id_in_a_path_does_harm(api: Api, gateway: Gateway, hostile: str) -> None:
    service_id = await gateway.made()
    handle = (await gateway.bind(service_id)).body["service_id"]
    quoted = quote(hostile, safe="")
    for method, path, body in (
        ("DELETE", f"{CONFIGURATIONS}/{quoted}", None),
        ("POST", f"{CONFIGURATIONS}/{quoted}/handles", {"service_id": hostile}),
        ("DELETE", f"{CONFIGURATIONS}/{quoted}/handles/{handle}", {"service_id": hostile}),
        ("DELETE", f"{CONFIGURATIONS}/{service_id}/handles/{quoted}", {"handle_id": hostile}),
    ):
        data = b"" if body is None else json.dumps({"label": "harbor-1.0", "binding_options": {}, **body}).encode()
        answer = await api.raw(
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-VCAP-Service-Token: {TOKEN}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 ")), (method, path, answer[:300])
        assert b"X-Injected" not in answer.partition(b"\r\n\r\n")[0]
    assert api.names == ["debug-port"]
    assert len(api.node.bindings(service_id)) == 1


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
async def test_F07_no_name_in_a_body_does_harm(api: Api, gateway: Gateway, hostile: str) -> None:
    refused(await gateway.provision(hostile), 400, 30001)
    service_id = await gateway.made("kept")
    bound = await gateway.bind(service_id, app_id=hostile)
    assert bound.status in (200, 400)
    for _, value in [(view.binding.id, view.binding.app) for view in api.node.bindings(service_id)]:
        assert value.isascii()
    assert api.names == ["kept"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"a"',
        b'{"name": "a"',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"label": "harbor-1.0", "name": "a", "name": "b"}',
        b'{"label": "harbor-1.0", "name": "a", "x": 1e999999}',
        b'{"label": "harbor-1.0", "name": "a", "x": NaN}',
        b'{"label": "harbor-1.0", "name": "a", "x": ' + b"9" * 60_000 + b"}",
        b'{"label": "harbor-1.0", "name": "\xff"}',
        b'{"label": "harbor-1.0", "name": "\\ud800"}',
        b'\xef\xbb\xbf{"label": "harbor-1.0", "name": "a"}',
        b'{"label": "harbor-1.0", "name": 7}',
        b'{"label": "harbor-1.0", "name": ["a"]}',
        b'{"label": "harbor-1.0"}',
        b'{"name": "a"}',
        b'{"label": "harbor-1.0", "name": "a", "plan": 100}',
        b'{"label": "harbor-1.0", "name": "a", "email": "' + b"x" * 300 + b'"}',
        b'{"label": "harbor-1.0", "name": "a", "plan_option": "x"}',
    ],
    ids=lambda body: body[:60].decode("latin-1"),
)
async def test_F08_a_body_that_is_not_a_request_is_refused(api: Api, gateway: Gateway, body: bytes) -> None:
    refused(await gateway("POST", data=body), 400, 30001)
    assert api.names == []


async def test_F08_the_other_bodies_are_read_as_strictly(gateway: Gateway) -> None:
    service_id = await gateway.made()
    handle = (await gateway.bind(service_id)).body["service_id"]
    for body in (b"", b"{}", b"[]", b'{"service_id": 1}', b'{"a": 1, "a": 2}'):
        refused(await gateway("POST", f"/{service_id}/handles", data=body), 400, 30001)
        refused(await gateway("DELETE", f"/{service_id}/handles/{handle}", data=body), 400, 30001)
    refused(await gateway.bind(service_id, label="mysql-5.5"), 400, 30002)
    refused(await gateway.bind(service_id, service_id="other"), 400, 30001, "invalid")
    refused(await gateway.unbind(service_id, handle, handle_id="other"), 400, 30001, "invalid")
    refused(await gateway.unbind(service_id, handle, service_id="other"), 400, 30001, "invalid")
    assert (await gateway.unbind(service_id, handle)).status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_F08_another_content_type_is_refused_by_its_number(api: Api, gateway: Gateway, kind: str) -> None:
    service_id = await gateway.made("kept")
    wrong = {"Content-Type": kind}
    refused(await gateway("POST", "", ASKED, headers=wrong), 400, 30000, "unsupported_media_type")
    refused(await gateway("POST", f"/{service_id}/handles", {}, headers=wrong), 400, 30000)
    refused(await gateway("DELETE", f"/{service_id}/handles/x", {}, headers=wrong), 400, 30000)
    if kind:
        refused(await gateway("DELETE", f"/{service_id}", headers=wrong), 400, 30000)
    assert api.names == ["kept"]


async def test_a_deletion_without_a_body_needs_no_content_type(gateway: Gateway) -> None:
    assert (await gateway("DELETE", f"/{await gateway.made()}", headers={"Content-Type": None})).status == 200


async def test_F08_a_body_that_is_too_large_is_refused(api: Api, gateway: Gateway) -> None:
    refused(await gateway("POST", data=b" " * (MAX_BODY + 1)), 413, 30001, "body_too_large")
    assert api.names == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "", 405, 30001),
        ("PUT", "/x", 405, 30001),
        ("GET", "/x/y/z", 404, 30300),
        ("POST", "/x/handle", 404, 30300),
    ],
)
async def test_what_there_is_not_is_refused_in_its_own_shape(
    gateway: Gateway, method: str, path: str, status: int, code: int
) -> None:
    refused(await gateway(method, path), status, code)


async def test_a_failure_of_the_node_is_told_in_its_own_shape(api: Api, gateway: Gateway) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("the secret is 42")

    api.node.find_binding = fail  # type: ignore[method-assign, assignment]
    service_id = await gateway.made()
    answer = await gateway.unbind(service_id, "x")
    refused(answer, 500, 30500, "internal")
    assert "42" not in answer.text


async def test_a_node_that_stops_is_unavailable(api: Api, gateway: Gateway) -> None:
    api.node._parts.stopping = True
    refused(await gateway.provision(), 503, 30600, "node_stopping")
    api.node._parts.stopping = False
