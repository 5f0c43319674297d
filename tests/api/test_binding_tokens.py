"""What the token of a binding opens, the backends of one service, and all that it does not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harbor.api import tokens
from harbor.api.app import ROUTERS
from support.running_api import Answer, Api, until
from support.running_api import running_api as a_running_api

BODY = {"host": "127.0.0.1", "port": 8080, "ttl": 30}


@dataclass
class Tenant:
    """One app that is bound to one service, and what it may send."""

    api: Api
    name: str
    service_id: str
    binding_id: str
    token: str

    async def __call__(self, method: str, path: str, body: Any = None) -> Answer:
        return await self.api.tcp(method, path, body, headers={"Authorization": f"Bearer {self.token}"})

    @property
    def backends(self) -> str:
        return f"/v1/services/{self.name}/backends"


async def a_tenant(api: Api, name: str) -> Tenant:
    await api.unix("POST", "/v1/services", {"name": name})
    bound = (await api.unix("POST", f"/v1/services/{name}/bindings", {"app": f"app-of-{name}"})).body
    return Tenant(api, name, bound["service_id"], bound["id"], bound["token"])


@pytest.fixture
async def mine(api: Api) -> Tenant:
    return await a_tenant(api, "mine")


@pytest.fixture
async def theirs(api: Api) -> Tenant:
    other = await a_tenant(api, "theirs")
    await other("PUT", f"{other.backends}/one", BODY)
    return other


async def test_K03_a_tenant_manages_the_backends_of_its_own_service(api: Api, mine: Tenant) -> None:
    for service in ("mine", mine.service_id):
        path = f"/v1/services/{service}/backends"
        assert (await mine("PUT", f"{path}/one", BODY)).status == 201
        assert (await mine("PUT", f"{path}/one", BODY)).status == 200
        assert [backend["id"] for backend in (await mine("GET", path)).body] == ["one"]
        assert (await mine("POST", f"{path}/one/drain")).body["state"] == "draining"
        assert (await mine("DELETE", f"{path}/one")).status == 204
    events = (await api.unix("GET", "/v1/events")).body
    acted = [event for event in events if event["kind"].startswith("backend.") and event["actor"] != "node"]
    assert {event["actor"] for event in acted} == {f"binding:{mine.binding_id}"}
    assert {event["kind"] for event in acted} == {"backend.registered", "backend.drain", "backend.deregistered"}


def operations() -> list[tuple[str, str]]:
    """All that the API can do, on the services that the tests make."""
    values = {"service": "mine", "backend": "one", "app": "app-of-mine", "session": "1"}
    return [
        (method, re.sub(r"{(\w+)}", lambda name: values.get(name[1], "x"), route.path))  # type: ignore[attr-defined]
        for router in ROUTERS
        for route in router.routes
        for method in sorted(route.methods)  # type: ignore[attr-defined]
        if route.path not in ("/healthz", "/readyz", "/docs", "/openapi.json")  # type: ignore[attr-defined]
    ]


OWN = {
    ("GET", "/v1/services/mine/backends"),
    ("PUT", "/v1/services/mine/backends/one"),
    ("DELETE", "/v1/services/mine/backends/one"),
    ("POST", "/v1/services/mine/backends/one/drain"),
    ("GET", "/v1/whois"),
}


async def test_K03_a_tenant_is_told_of_its_own_clients_only(api: Api, mine: Tenant, theirs: Tenant) -> None:
    peers: dict[str, str] = {}
    clients = []
    for tenant in (mine, theirs):
        seen: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        backend = await asyncio.start_server(lambda _, writer, seen=seen: seen.put_nowait(writer), "127.0.0.1", 0)
        body = {"host": "127.0.0.1", "port": backend.sockets[0].getsockname()[1]}
        await tenant("PUT", f"{tenant.backends}/two", body)
        await tenant("DELETE", f"{tenant.backends}/one")
        port = (await api.unix("GET", f"/v1/services/{tenant.name}")).body["port"]
        clients.append((await asyncio.open_connection("127.0.0.1", port))[1])
        clients.append(await seen.get())
        peers[tenant.name] = "{}:{}".format(*clients[-1].get_extra_info("peername"))
        backend.close()
    known = await mine("GET", f"/v1/whois?local={peers['mine']}")
    assert known.body["client"] == "{}:{}".format(*clients[0].get_extra_info("sockname"))
    again = await mine("GET", f"/v1/whois?local={peers['mine']}&service=mine")
    assert again.body["session"] == known.body["session"]
    for query in ("", f"&service={mine.service_id}"):
        answer = await mine("GET", f"/v1/whois?local={peers['theirs']}{query}")
        assert (answer.status, answer.code) == (404, "whois_unknown")
    for query in ("&service=theirs", "&service=mine&service=theirs", "&service="):
        answer = await mine("GET", f"/v1/whois?local={peers['theirs']}{query}")
        assert (answer.status, answer.code) == (403, "token_scope")
    assert (await mine("DELETE", f"/v1/whois?local={peers['mine']}")).status == 403
    for writer in clients:
        writer.close()


@pytest.mark.parametrize(("method", "path"), [pair for pair in operations() if pair not in OWN])
async def test_K03_nothing_else_is_open_to_a_tenant(api: Api, mine: Tenant, method: str, path: str) -> None:
    before = [view.as_json() for view in api.node.services()]
    answer = await mine(method, path, {"app": "x"} if method in ("POST", "PUT", "PATCH") else None)
    if path.startswith("/v1/") or path == "/metrics":
        assert (answer.status, answer.code) == (403, "token_scope")
        assert f"/v1/services/{mine.service_id}/backends" in answer.body["detail"]
    else:  # platforms have credentials of their own
        assert answer.status in (401, 404)
    assert [view.as_json() for view in api.node.services()] == before


def test_K03_every_operation_was_tried() -> None:
    assert set(operations()) > OWN
    assert len(operations()) > 20


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/services/theirs/backends"),
        ("PUT", "/v1/services/theirs/backends/two"),
        ("DELETE", "/v1/services/theirs/backends/one"),
        ("POST", "/v1/services/theirs/backends/one/drain"),
        ("GET", "/v1/services/{id}/backends"),
        ("PUT", "/v1/services/{id}/backends/two"),
        ("GET", "/v1/services/nope/backends"),
        ("GET", "/v1/services/mine/../theirs/backends"),
        ("GET", "/v1/services/mine/backends/../../theirs/backends"),
        ("GET", "/v1/services/mine/backends/%2e%2e/%2e%2e/theirs/backends"),
        ("GET", "/v1/services/mine%2F..%2Ftheirs/backends"),
        ("PUT", "/v1/services/mine%00/backends/two"),
        ("GET", "//v1/services/mine/backends"),
        ("GET", "/v1//services/mine/backends"),
        ("GET", "/v1/services/mine/backends/"),
        ("GET", "/v1/services//backends"),
        ("PUT", "/v1/services/mine/backends/one/drain/x"),
        ("GET", "/v1/services/mine/backends?x=/v1/services/theirs/backends"),
        ("HEAD", "/v1/services/mine/backends"),
        ("PATCH", "/v1/services/mine/backends/one"),
        ("OPTIONS", "/v1/services/mine/backends"),
        ("GET", "/v1/services/mine"),
        ("GET", "/metrics"),
        ("GET", "/nope"),
    ],
)
async def test_K03_no_way_of_writing_a_path_leads_to_another_tenant(
    api: Api, mine: Tenant, theirs: Tenant, method: str, path: str
) -> None:
    request = (
        f"{method} {path.format(id=theirs.service_id)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer {mine.token}\r\nContent-Type: application/json\r\n"
    )
    body = json.dumps(BODY)
    raw = await api.raw(f"{request}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    status = int(raw.split()[1])
    assert status == (200 if "?x=" in path else 403), raw  # the query is not the path
    assert b"theirs" not in raw
    assert [backend.id for backend in api.node.service("theirs").backends] == ["one"]
    assert api.node.service("theirs").backends[0].state == "up"
    assert api.node.service("mine").backends == ()


async def test_K03_no_service_can_take_the_id_of_another_for_its_name(api: Api, theirs: Tenant) -> None:
    answer = await api.unix("POST", "/v1/services", {"name": theirs.service_id})
    assert (answer.status, answer.code) == (409, "service_exists")


async def test_K03_over_the_unix_socket_the_files_mode_has_decided_already(api: Api, mine: Tenant) -> None:
    headers = {"Authorization": f"Bearer {mine.token}"}
    assert (await api.unix("GET", "/v1/node", headers=headers)).status == 200


async def test_K02_a_token_is_worth_nothing_once_its_app_is_unbound(api: Api, mine: Tenant) -> None:
    await mine("PUT", f"{mine.backends}/one", BODY)
    await api.unix("DELETE", "/v1/services/mine/bindings/app-of-mine")
    for _ in range(tokens.MOST_WRONG + 5):  # a heartbeat that goes on is no guess, and locks nobody out
        answer = await mine("PUT", f"{mine.backends}/one", BODY)
        assert (answer.status, answer.code) == (401, "token_revoked")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert mine.token not in answer.text
    assert (await api.tcp("GET", "/v1/node")).status == 200
    again = (await api.unix("POST", "/v1/services/mine/bindings", {"app": "app-of-mine"})).body
    assert again["token"] != mine.token
    assert (await mine("GET", mine.backends)).code == "token_revoked"


async def test_K02_a_token_ends_with_its_service_and_does_not_open_the_next_of_that_name(
    api: Api, mine: Tenant
) -> None:
    await api.unix("DELETE", "/v1/services/mine?force=true")
    await api.unix("POST", "/v1/services", {"name": "mine"})
    assert (await mine("PUT", f"{mine.backends}/one", BODY)).code == "token_revoked"
    assert api.node.service("mine").backends == ()


@pytest.mark.parametrize("end", ["unbind", "delete and lease the name again"])
async def test_K02_a_request_that_was_let_in_and_comes_after_the_end_changes_nothing(
    api: Api, mine: Tenant, end: str
) -> None:
    """Its head passes the gate, its body comes when the binding is no more."""
    body = json.dumps(BODY).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(
        f"PUT {mine.backends}/late HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {mine.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    async with asyncio.timeout(20):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"  # the body is being read
    if end == "unbind":
        await api.unix("DELETE", "/v1/services/mine/bindings/app-of-mine")
    else:
        await api.unix("DELETE", "/v1/services/mine?force=true")
        await api.unix("POST", "/v1/services", {"name": "mine"})
    writer.write(body)
    async with asyncio.timeout(20):
        status = int((await reader.readuntil(b"\r\n")).split()[1])
    writer.close()
    assert status in (401, 404)
    assert api.node.service("mine").backends == ()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer hb_",
        "Bearer {}x",
        "Bearer {} x",
        "Bearer x{}",
        "Basic {}",
        "{}",
        "Bearer {up}",
    ],
)
async def test_K02_what_is_no_token_is_refused_and_counted(api: Api, mine: Tenant, value: str) -> None:
    headers = {"Authorization": value.format(mine.token, up=mine.token.upper())}
    for _ in range(tokens.MOST_WRONG):
        answer = await api.tcp("GET", mine.backends, headers=headers)
        assert (answer.status, answer.code) == (401, "unauthorized")
    answer = await api.tcp("GET", mine.backends)
    assert (answer.status, answer.code) == (429, "too_many_wrong_tokens")


async def test_K02_guesses_of_others_behind_an_address_hold_up_no_lease(api: Api, mine: Tenant) -> None:
    for _ in range(tokens.MOST_WRONG + 1):
        await api.tcp("GET", "/v1/node", headers={"Authorization": "Bearer wrong"})
    assert (await mine("PUT", f"{mine.backends}/one", BODY)).status == 201
    assert (await mine("GET", "/v1/node")).code == "token_scope"


async def test_K02_reaching_too_far_with_a_good_token_locks_nobody_out(api: Api, mine: Tenant) -> None:
    for _ in range(tokens.MOST_WRONG + 5):
        assert (await mine("GET", "/v1/node")).status == 403
    assert (await mine("GET", mine.backends)).status == 200


@pytest.mark.parametrize("name", ["token", "access_token"])
async def test_K02_a_tenants_token_in_the_address_is_refused(mine: Tenant, name: str) -> None:
    answer = await mine("GET", f"{mine.backends}?{name}={mine.token}")
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert mine.token not in answer.text


@pytest.mark.parametrize(
    ("header", "code"),
    [({"Host": "evil.example"}, "host_unknown"), ({"Origin": "http://evil.example"}, "origin_refused")],
)
async def test_K08_a_web_page_gets_nowhere_with_a_tenants_token_either(
    api: Api, mine: Tenant, header: dict[str, str], code: str
) -> None:
    headers = {"Authorization": f"Bearer {mine.token}", **header}
    answer = await api.tcp("PUT", f"{mine.backends}/one", BODY, headers=headers)
    assert answer.code == code
    assert api.node.service("mine").backends == ()


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Tenant]:
    """A tenant of a node whose backends are elsewhere: everything is allowed but what is special."""
    (tmp_path / "strict").mkdir(0o700)
    async with a_running_api(tmp_path / "strict", allow='0.0.0.0/0, "::/0"') as api:
        yield await a_tenant(api, "mine")


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", "backend_not_allowed"),
        ("127.255.255.254", "backend_not_allowed"),
        ("::1", "backend_not_allowed"),
        ("::ffff:127.0.0.1", "backend_not_allowed"),
        ("::ffff:7f00:1", "backend_not_allowed"),
        ("::127.0.0.1", "backend_not_allowed"),
        ("64:ff9b::7f00:1", "backend_not_allowed"),
        ("2002:7f00:1::", "backend_not_allowed"),
        ("0.0.0.0", "backend_not_allowed"),
        ("::", "backend_not_allowed"),
        ("169.254.169.254", "backend_not_allowed"),
        ("::ffff:169.254.169.254", "backend_not_allowed"),
        ("fd00:ec2::254", "backend_not_allowed"),
        ("fe80::1", "backend_not_allowed"),
        ("fe80::1%lo", "host_invalid"),
        ("224.0.0.1", "backend_not_allowed"),
        ("ff02::1", "backend_not_allowed"),
        ("255.255.255.255", "backend_not_allowed"),
        ("2130706433", "host_invalid"),
        ("0177.0.0.1", "host_invalid"),
        ("0x7f.0.0.1", "host_invalid"),
        ("0x7f000001", "host_invalid"),
        ("127.1", "host_invalid"),
        ("127.0.0.1.", "host_invalid"),
        ("[::1]", "host_invalid"),
        ("localhost", "backend_not_allowed"),
        ("unix:/run/harbor/harbor.sock", "host_invalid"),
        ("/run/harbor/harbor.sock", "host_invalid"),
        ("http://127.0.0.1", "host_invalid"),
        ("user@127.0.0.1", "host_invalid"),
        ("127.0.0.1/32", "host_invalid"),
        ("127.0.0.1\0.example", "host_invalid"),
        ("127.0.0.1\r\nX: y", "host_invalid"),
        ("１２７.0.0.1", "host_invalid"),
        ("", "invalid"),
    ],
)
async def test_K04_H08_a_tenant_cannot_make_the_node_dial_where_it_must_not(
    strict: Tenant, host: str, code: str
) -> None:
    answer = await strict("PUT", f"{strict.backends}/one", {"host": host, "port": 80})
    assert (answer.status, answer.code) == (403 if code == "backend_not_allowed" else 400, code)
    assert strict.api.node.service("mine").backends == ()


async def test_K04_a_backend_that_is_good_cannot_be_moved_to_where_it_must_not_be(strict: Tenant) -> None:
    path = f"{strict.backends}/one"
    assert (await strict("PUT", path, {"host": "192.0.2.7", "port": 80})).status == 201
    assert (await strict("PUT", path, {"host": "169.254.169.254", "port": 80})).code == "backend_not_allowed"
    assert [backend.host for backend in strict.api.node.service("mine").backends] == ["192.0.2.7"]


async def test_K04_K16_neither_the_api_nor_a_port_of_the_node_is_a_backend(api: Api, mine: Tenant) -> None:
    """Here loopback is allowed, and these still are not."""
    port = api.node.service("mine").service.port
    for host in ("127.0.0.1", "::ffff:127.0.0.1", "localhost"):
        answer = await mine("PUT", f"{mine.backends}/one", {"host": host, "port": api.port})
        assert (answer.status, answer.code) == (403, "backend_is_api"), host
    answer = await mine("PUT", f"{mine.backends}/one", {"host": "127.0.0.1", "port": port})
    assert (answer.status, answer.code) == (403, "backend_is_harbor")
    assert api.node.service("mine").backends == ()


async def test_a_lease_that_its_tenant_does_not_renew_ends(api: Api, mine: Tenant) -> None:
    await mine("PUT", f"{mine.backends}/one", {**BODY, "ttl": 0.1})
    await until(lambda: api.node.service("mine").backends == ())
