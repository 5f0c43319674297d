from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from cli.conftest import Shell
from support.running_api import DEADLINE, until


@pytest.fixture
async def clients(harbor: Shell) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Three live sessions of the service ``web``."""
    assert harbor.api is not None
    served: list[asyncio.StreamWriter] = []
    backend = await asyncio.start_server(lambda _reader, writer: served.append(writer), "127.0.0.1", 0)
    port = backend.sockets[0].getsockname()[1]
    leased = (await harbor.api.unix("POST", "/v1/services", {"name": "web"})).body["port"]
    body = {"host": "127.0.0.1", "port": port}
    await harbor.api.unix("PUT", "/v1/services/web/backends/one", body)
    opened = [await asyncio.open_connection("127.0.0.1", leased) for _ in range(3)]
    node = harbor.api.node
    await until(lambda: node.service("web").counters.active == 3)
    yield [reader for reader, _ in opened]
    backend.close()
    for writer in [*served, *(writer for _, writer in opened)]:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(DEADLINE):
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass


async def test_sessions_are_listed_and_one_is_killed(harbor: Shell, clients: list[asyncio.StreamReader]) -> None:
    assert harbor.api is not None
    listed = (await harbor("sessions", "--json")).json
    assert len(listed) == 3
    assert {(one["service"], one["backend"], one["protocol"]) for one in listed} == {("web", "one", "tcp")}
    in_words = await harbor("sessions", "web")
    assert [line.split()[0] for line in in_words.out.splitlines()[1:]] == [one["id"] for one in listed]

    killed = await harbor("kill", listed[0]["id"])
    assert (killed.code, killed.out) == (0, f"ended session {listed[0]['id']}\n")
    node = harbor.api.node
    await until(lambda: node.service("web").counters.active == 2)
    again = await harbor("kill", listed[0]["id"])
    assert again.code == 1
    assert "there is no session" in again.err


async def test_sessions_are_killed_by_what_they_have_in_common(
    harbor: Shell, clients: list[asyncio.StreamReader]
) -> None:
    assert (await harbor("kill", "--client", "10.0.0.0/8")).out == "ended 0 sessions\n"
    assert (await harbor("sessions", "--client", "10.0.0.0/8", "--json")).json == []
    killed = await harbor("kill", "--service", "web", "--backend", "one", "--client", "127.0.0.0/8")
    assert (killed.code, killed.out) == (0, "ended 3 sessions\n")
    for reader in clients:
        await ended(reader)


@pytest.mark.parametrize("args", [(), ("1", "--service", "web")])
async def test_a_kill_that_says_too_little_or_too_much_is_wrong_use(alone: Shell, args: tuple[str, ...]) -> None:
    assert (await alone("kill", *args)).code == 2


async def test_whois_names_the_client_of_a_connection(harbor: Shell) -> None:
    assert harbor.api is not None
    seen: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    backend = await asyncio.start_server(lambda _, writer: seen.put_nowait(writer), "127.0.0.1", 0)
    leased = (await harbor.api.unix("POST", "/v1/services", {"name": "web"})).body["port"]
    body = {"host": "127.0.0.1", "port": backend.sockets[0].getsockname()[1]}
    await harbor.api.unix("PUT", "/v1/services/web/backends/one", body)
    _, client = await asyncio.open_connection("127.0.0.1", leased)
    far = await seen.get()
    peer = "{}:{}".format(*far.get_extra_info("peername"))
    name = "{}:{}".format(*client.get_extra_info("sockname"))
    told = await harbor("whois", peer)
    assert told.out.splitlines()[0].split() == ["client", name]
    assert (await harbor("whois", peer, "--service", "web", "--protocol", "tcp", "--json")).json["client"] == name
    unknown = await harbor("whois", name)
    assert unknown.code == 1
    assert "as its peer" in unknown.err
    for writer in (client, far):
        writer.close()
    backend.close()
