"""The load over TLS: handshakes in full and resumed, and what passes afterwards."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import certificate
from benchmarks.load import Window, build, load
from benchmarks.process import LOAD_TLS, Failed
from benchmarks.rows.tls import AT_ONCE, check_resumed
from support.needs import lacking, needs

CPU = min(os.sched_getaffinity(0))
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    needs("gcc")
    build()
    if not LOAD_TLS.exists():
        lacking("this test needs OpenSSL's headers: apt-get install libssl-dev")


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    file = tmp_path / "certificate.pem"
    certificate.put(file)
    assert file.stat().st_mode & 0o777 == 0o600
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def source(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(bytes(65536))
        await writer.drain()
        await asyncio.sleep(0)  # drain() need not wait, and nothing else would tell that the client has gone


async def sink(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


@contextmanager
def serving(context: ssl.SSLContext, serve: Serve) -> Iterator[int]:
    """The port of a TLS server that treats every client like that."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except OSError:
            pass  # clients close as they like
        finally:
            writer.transport.abort()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(one, "127.0.0.1", 0, ssl=context)

    async def stop(server: asyncio.Server) -> None:
        server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def ran(mode: str, port: int, **options: Any) -> dict[str, Any]:
    with load(mode, CPU, port, 0.3, tls=True, **options) as running:
        running.go()
        return running.result()


@pytest.mark.parametrize(
    ("mode", "serve", "options"),
    [
        ("pingpong", echo, {"connections": 4}),
        ("connect", echo, {"connections": 2}),
        ("bulk", source, {"connections": 2}),
        ("bulk", sink, {"connections": 2, "up": True}),
        ("idle", echo, {"connections": 20}),
    ],
)
def test_every_kind_of_traffic_passes_within_tls(
    context: ssl.SSLContext, mode: str, serve: Serve, options: dict[str, Any]
) -> None:
    with serving(context, serve) as port:
        result = ran(mode, port, **options)
    assert result["operations"] > 0
    assert result["errors"] == {}


def test_handshakes_are_full_unless_they_shall_be_resumed(context: ssl.SSLContext) -> None:
    with serving(context, echo) as port:
        full, resumed = (ran("connect", port, connections=2, resume=resume) for resume in (False, True))
    assert full["resumed"] == 0
    assert resumed["operations"] - 2 <= resumed["resumed"] <= resumed["operations"] + 2


def test_a_handshake_that_fails_is_named(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(context, echo) as port:
        result = ran("connect", port, connections=2)
    assert result["operations"] == 0
    assert list(result["errors"]) == ["connect EPROTO"]


@pytest.mark.parametrize(
    ("resumed", "resume", "fits"),
    [(0, False, True), (1, False, False), (100, True, True), (100 - AT_ONCE, True, True), (99 - AT_ONCE, True, False)],
)
def test_a_row_is_of_the_handshakes_that_it_names(resumed: int, resume: bool, fits: bool) -> None:
    window = Window({"operations": 100, "resumed": resumed, "errors": {}}, 1.0, 1.0)
    if fits:
        check_resumed(window, resume)
    else:
        with pytest.raises(Failed, match="of 100 handshakes were resumed"):
            check_resumed(window, resume)
