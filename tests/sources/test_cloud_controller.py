"""A cloud controller may answer anything, or nothing: it ends as a value or as one kind of failure, soon and small."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from harbor.sources.cloud_controller import MOST_BYTES, CloudController, CloudControllerFailed
from support.cloud_controller import LABEL, TOKEN
from support.cloud_controller import CloudController as Cloud
from support.cloud_controller import cloud_controller as running

HANDLE = {"service_id": "s", "configuration": {}, "credentials": {"name": "s"}}


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    async with running() as cloud:
        yield cloud


@pytest.fixture
async def client(cloud: Cloud) -> AsyncIterator[CloudController]:
    client = CloudController(cloud.url, TOKEN)
    yield client
    await client.close()


async def failure(client: CloudController) -> str:
    """Why both requests fail, as they must, in the same words."""
    with pytest.raises(CloudControllerFailed) as on_handles:
        await client.handles(LABEL)
    return str(on_handles.value)


async def test_an_offering_arrives_whole(cloud: Cloud, client: CloudController) -> None:
    await client.offer({"label": LABEL, "active": True})
    assert cloud.offerings == [{"label": LABEL, "active": True}]


async def test_handles_are_given_as_they_are(cloud: Cloud, client: CloudController) -> None:
    assert await client.handles(LABEL) == []
    cloud.handles["s"] = HANDLE
    assert await client.handles(LABEL) == [HANDLE]


async def test_G04_one_that_is_not_there_is_a_failure() -> None:
    async with running() as cloud:
        url = cloud.url
    client = CloudController(url, TOKEN)
    try:
        assert await failure(client) == f"{url}: Connection refused"
    finally:
        await client.close()


@pytest.mark.parametrize("status", [400, 404, 418, 500, 502, 503])
async def test_G04_an_error_is_a_failure(cloud: Cloud, client: CloudController, status: int) -> None:
    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=status, text="{}")

    cloud.fault = fail
    assert await failure(client) == f"{cloud.url} answers {status}"
    with pytest.raises(CloudControllerFailed):
        await client.offer({})


async def test_K02_another_token_is_told_as_such(cloud: Cloud) -> None:
    client = CloudController(cloud.url, "wrong")
    try:
        assert "it has another token for this gateway" in await failure(client)
    finally:
        await client.close()


async def test_K04_a_redirect_is_not_followed(cloud: Cloud, client: CloudController) -> None:
    async with running() as elsewhere:

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": elsewhere.url + request.path})

        cloud.fault = redirect
        assert f"redirects to '{elsewhere.url}/services/v1/offerings/{LABEL}/handles'" in await failure(client)
        with pytest.raises(CloudControllerFailed):
            await client.offer({})
        assert elsewhere.requests == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"handles": {}}',
        b'{"handle": []}',
        b'{"handles": [',
        b"\xff\xfe",
        b"[" * 500_000,
        b'{"handles": [' + b"9" * 100_000 + b"]}",
        gzip.compress(b'{"handles": []}', mtime=0),
    ],
    ids=lambda body: repr(body[:16]),
)
async def test_F08_what_is_no_list_of_handles_is_a_failure(cloud: Cloud, client: CloudController, body: bytes) -> None:
    async def garbage(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    cloud.fault = garbage
    assert "does not answer with" in await failure(client)


async def test_F08_an_endless_answer_is_cut_off(cloud: Cloud, client: CloudController) -> None:
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(1000):
            await answer.write(b" " * 2**20)
            sent += 2**20
        return answer

    cloud.fault = pour
    assert f"more than {MOST_BYTES} bytes" in await failure(client)
    assert sent < 100 * 2**20


async def test_F08_a_small_answer_that_unfolds_is_not_unfolded(cloud: Cloud, client: CloudController) -> None:
    packed = gzip.compress(b'{"handles": []}'.ljust(200 * 2**20))

    async def bomb(_: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    cloud.fault = bomb
    assert "does not answer with JSON" in await failure(client)


async def test_an_answer_that_does_not_come_is_given_up(cloud: Cloud) -> None:
    gone = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await gone.wait()
        return web.Response()

    cloud.fault = hang
    client = CloudController(cloud.url, TOKEN, patience=0.1)
    try:
        assert await failure(client) == f"{cloud.url} did not answer in time"
    finally:
        gone.set()
        await client.close()


async def test_what_is_not_http_is_a_failure() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x16\x03\x01\x1b[2J nonsense\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    client = CloudController(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", TOKEN)
    try:
        assert (await failure(client)).isprintable()
    finally:
        await client.close()
        server.close()


async def test_ten_thousand_handles_fit(cloud: Cloud, client: CloudController) -> None:
    handle = HANDLE | {"credentials": {"host": "10.0.0.1", "port": 30000, "name": "x" * 36, "node_id": "harbor_node_1"}}
    cloud.handles = {str(number): handle | {"service_id": f"{number:036}"} for number in range(10_000)}
    assert len(json.dumps(list(cloud.handles.values()))) < MOST_BYTES
    assert len(await client.handles(LABEL)) == 10_000


@pytest.mark.parametrize("name", ["nowhere.invalid", "x" * 64, "a..b"])
async def test_a_name_that_nobody_knows_or_that_is_none_is_a_failure(name: str) -> None:
    client = CloudController(f"http://{name}", TOKEN)
    try:
        assert (await failure(client)).startswith(f"http://{name}: ")
    finally:
        await client.close()


async def test_one_is_reached_by_its_name(cloud: Cloud) -> None:
    client = CloudController(cloud.url.replace("127.0.0.1", "localhost"), TOKEN)
    try:
        assert await client.handles(LABEL) == []
    finally:
        await client.close()


async def test_a_name_server_that_is_silent_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of the event loop are waited for when the process ends; the one that looks a name up must not be."""
    silent = threading.Event()

    def hang(*_: object) -> None:
        silent.wait(20)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    client = CloudController("http://api.example.com", TOKEN, patience=0.1)
    try:
        assert "did not answer in time" in await failure(client)
        [thread] = [thread for thread in threading.enumerate() if thread.name == "lookup"]
        assert thread.daemon
    finally:
        silent.set()
        await client.close()
    thread.join(20)
