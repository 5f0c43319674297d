"""HTTP through Harbor to real servers: they see what Harbor let through, all of them the same, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from harbor.model import Address
from support.http_glue import Glue, glued
from support.http_witnesses import Nginx, Uvicorn, Witness
from support.programs import Programs
from support.smuggling import CASES, Case, Seen, chunked, get, post

KINDS = list(dict.fromkeys(case.kind for case in CASES))


@pytest.fixture(params=["nginx", "httptools", "h11"])
async def witness(request: pytest.FixtureRequest) -> AsyncIterator[Witness]:
    if request.param == "nginx":
        servers: Programs = request.getfixturevalue("servers")
        scratch: Path = request.getfixturevalue("scratch")
        ports: range = request.getfixturevalue("ports")
        yield Nginx(servers, scratch, ports[0])
    else:
        async with Uvicorn(request.param).running() as running:
            yield running


async def exchanged(address: Address, sent: bytes) -> bytes:
    """Everything that comes back for ``sent``, after which the client ends."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(sent)
    try:
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def outcome(glue: Glue, witness: Witness, case: Case) -> str | None:
    """What is wrong with how a case went, if anything."""
    before = len(glue.refused)
    answer = await exchanged(glue.address, case.sent)
    seen = await witness.seen()
    passed = glue.relays[-1].requests
    if isinstance(case.wanted, int):
        statuses = [refused.status for refused in glue.refused[before:]]
        if statuses != [case.wanted]:
            return f"refused with {statuses}, not {case.wanted}"
        if len(seen) > passed or any("hidden" in each.target for each in seen):
            return f"Harbor let {passed} through, the backend saw {seen}"
        return None
    if glue.refused[before:]:
        return f"refused: {glue.refused[-1].words}"
    if seen != list(case.wanted):
        return f"saw {seen}, not {list(case.wanted)}"
    if passed != len(seen) or answer.count(b"HTTP/1.1 200 ") != passed:
        return f"{passed} went through, {len(seen)} were seen, the client got {answer!r}"
    return None


@pytest.mark.parametrize("kind", KINDS)
async def test_F10_every_server_sees_what_Harbor_let_through_and_no_more(witness: Witness, kind: str) -> None:
    async with glued(witness.address) as glue:
        found = {case.name: await outcome(glue, witness, case) for case in CASES if case.kind == kind}
    assert {name: wrong for name, wrong in found.items() if wrong is not None} == {}


async def test_a_client_keeps_its_connection_for_get_head_and_post(witness: Witness) -> None:
    large = b"0123456789abcdef" * 20_000
    async with glued(witness.address) as glue, aiohttp.ClientSession(f"http://127.0.0.1:{glue.address.port}") as client:
        for _ in range(3):
            async with client.get("/a?b=c") as answer:
                assert (answer.status, await answer.read()) == (200, b"ok")
            async with client.head("/head") as answer:
                assert (answer.status, await answer.read()) == (200, b"")
            async with client.post("/", data=large) as answer:
                assert await answer.read() == b"ok"
            async with client.post("/", data=pieces(large)) as answer:
                assert await answer.read() == b"ok"
        assert [relay.requests for relay in glue.relays] == [12]
    wanted = [Seen("GET", "/a?b=c"), Seen("HEAD", "/head"), Seen("POST", "/", large), Seen("POST", "/", large)]
    assert await witness.seen() == wanted * 3


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 5_000):
        yield data[at : at + 5_000]


async def test_a_body_waits_for_100_continue(witness: Witness) -> None:
    async with glued(witness.address) as glue:
        reader, writer = await asyncio.open_connection(*glue.address)
        writer.write(post(b"Content-Length: 4", b"Expect: 100-continue"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"abcd" + get(target=b"/next"))
        for _ in range(2):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(2) == b"ok"
        writer.close()
    assert await witness.seen() == [Seen("POST", "/", b"abcd"), Seen("GET", "/next")]


async def test_F10_a_client_that_leaves_amid_a_request_leaves_no_request(witness: Witness) -> None:
    async with glued(witness.address) as glue:
        for whole in (post(b"Content-Length: 4", body=b"abcd"), chunked(b"4\r\nabcd\r\n0\r\n\r\n"), get()):
            for length in range(1, len(whole)):
                await exchanged(glue.address, whole[:length])
    assert await witness.seen() == []


async def test_F10_CONNECT_opens_nothing_unless_the_server_agrees(witness: Witness) -> None:
    connect = b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n"
    async with glued(witness.address) as glue:
        await exchanged(glue.address, connect + get(target=b"/hidden") * 2)
        relay = glue.relays[-1]
    seen = await witness.seen()
    assert len(seen) <= relay.requests
    assert not any(each.method == "GET" for each in seen[relay.requests :])


async def test_a_WebSocket_passes_with_what_was_sent_ahead() -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        assert request.headers["X-Forwarded-Proto"] == "https"
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    application = web.Application()
    application.router.add_get("/ws", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with (
            glued(Address(*runner.addresses[0])) as glue,
            aiohttp.ClientSession() as client,
            client.ws_connect(f"http://127.0.0.1:{glue.address.port}/ws") as socket,
        ):
            for word in ("one", "two", "x" * 200_000):
                await socket.send_str(word)
                assert await socket.receive_str() == word.upper()
            assert glue.relays[-1].is_raw
    finally:
        await runner.cleanup()
