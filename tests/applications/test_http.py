"""curl through one port to nginx: large and many, in both directions; a backend that dies on the way; a WebSocket."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

import aiohttp
import pytest
from aiohttp import web

from support.app_node import AppNode
from support.needs import needs
from support.programs import Programs, output_of
from support.waiting import eventually
from support.web import nginx

MIB: Final = 1 << 20
PARTIAL_FILE, RECEIVE_FAILED = 18, 56  # exit codes of curl


class Content:
    """``size`` MiB: a random block again and again, so that its checksum is known without reading it."""

    def __init__(self, size: int) -> None:
        self.size = size * MIB
        self._block = os.urandom(MIB)
        self.checksum = checksum(self._blocks())

    def write(self, path: Path) -> Path:
        with path.open("wb") as file:
            file.writelines(self._blocks())
        return path

    def _blocks(self) -> Iterator[bytes]:
        return (self._block for _ in range(self.size // MIB))


def checksum(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def blocks_of(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(MIB), b"")


def downloaded(url: str) -> str:
    """The checksum of what curl gets, without ever having it all."""
    with subprocess.Popen([needs("curl"), "--silent", "--fail", url], stdout=subprocess.PIPE, bufsize=0) as curl:
        assert curl.stdout is not None
        found = checksum(blocks_of(curl.stdout))
    assert curl.returncode == 0
    return found


def test_a_gibibyte_arrives_with_the_same_checksum(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    nginx(servers, scratch, ports[0])
    content = Content(1024)
    content.write(scratch / "files" / "large")
    port = node.create("web-large", ports[0])
    assert downloaded(f"http://127.0.0.1:{port}/large") == content.checksum
    assert node.ended("web-large", 1) == {"client_closed": 1}
    assert node.service("web-large")["bytes"]["out"] > content.size


def test_three_at_a_time_up_and_down(node: AppNode, servers: Programs, ports: range, scratch: Path) -> None:
    for port in ports[:3]:
        nginx(servers, scratch, port)
    url = f"http://127.0.0.1:{node.create('web-parallel', *ports[:3])}"
    contents = [Content(100) for _ in range(3)]
    files = [content.write(scratch / f"{n}") for n, content in enumerate(contents)]
    with ThreadPoolExecutor(3) as at_once:
        uploads = [at_once.submit(output_of, "curl", "--silent", "--fail", "-T", file, f"{url}/") for file in files]
        assert [upload.result() for upload in uploads] == [""] * 3
        downloads = [at_once.submit(downloaded, f"{url}/{file.name}") for file in files]
        assert [download.result() for download in downloads] == [content.checksum for content in contents]
    for file, content in zip(files, contents, strict=True):
        with (scratch / "files" / file.name).open("rb") as stored:
            assert checksum(blocks_of(stored)) == content.checksum


def test_requests_of_one_connection_stay_with_their_backend(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    for port in ports[:2]:
        nginx(servers, scratch, port)
    (scratch / "files" / "small").write_bytes(b"0123456789")
    url = f"http://127.0.0.1:{node.create('web-keepalive', *ports[:2])}/small"
    shown = "%{num_connects} %header{x-backend}\n"
    assert output_of("curl", "--silent", *[url] * 3, *["-o", "/dev/null"] * 3, "-w", shown).splitlines() == [
        f"1 {ports[0]}",
        f"0 {ports[0]}",
        f"0 {ports[0]}",
    ]
    assert output_of("curl", "--silent", "--range", "3-5", url) == "345"
    assert node.service("web-keepalive")["sessions"]["opened"] == 2


def test_A04_a_backend_killed_half_way_is_an_error_and_the_next_request_works(
    node: AppNode, servers: Programs, ports: range, scratch: Path
) -> None:
    slow = nginx(servers, scratch, ports[0], more="limit_rate 10m;")
    nginx(servers, scratch, ports[1])
    (scratch / "files" / "small").write_bytes(b"whole")
    Content(50).write(scratch / "files" / "large")
    url = f"http://127.0.0.1:{node.create('web-killed', *ports[:2])}"
    got = scratch / "got"
    with subprocess.Popen([needs("curl"), "--silent", "--fail", "-o", got, f"{url}/large"]) as curl:
        eventually(lambda: got.exists() and got.stat().st_size > MIB, what="a part has arrived")
        servers.kill(slow)
        assert curl.wait(20) in (PARTIAL_FILE, RECEIVE_FAILED)
    assert got.stat().st_size < 50 * MIB
    assert [output_of("curl", "--silent", "--fail", f"{url}/small") for _ in range(4)] == ["whole"] * 4
    ends = node.ended("web-killed", 5)
    assert ends == {"client_closed": 4, "backend_closed": 1} or ends == {"client_closed": 4, "backend_reset": 1}


async def _echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.data == "bye":
            await socket.close(code=4001, message=b"as you wish")
        elif message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


@pytest.fixture
async def websocket_port() -> AsyncIterator[int]:
    application = web.Application()
    application.router.add_get("/", _echo)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_a_websocket_passes_with_its_close_codes(node: AppNode, websocket_port: int) -> None:
    port = node.create("web-socket", websocket_port)
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://127.0.0.1:{port}/") as socket:
            await socket.send_str("text: ✓")
            assert await socket.receive_str(timeout=20) == "text: ✓"
            block = os.urandom(MIB)
            await socket.send_bytes(block)
            assert await socket.receive_bytes(timeout=20) == block
            await socket.ping()
            await socket.send_str("bye")
            message = await socket.receive(timeout=20)
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "as you wish")
        assert socket.close_code == 4001
