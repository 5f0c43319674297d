"""The sample backends: small servers on loopback, each of which says its name. They do nothing unless asked."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from harbor.demo.dns import answer
from harbor.model import Address

HOST: Final = "127.0.0.1"
LONGEST_HEAD: Final = 16 * 1024  # bytes of an HTTP request; more is not what a person types or a browser sends
LONGEST_DATAGRAM: Final = 65_507  # bytes that fit into a UDP datagram over IPv4
PATIENCE: Final = 30.0  # seconds for a request to arrive whole
MOST_ATTEMPTS: Final = 50  # to find a number that is free for TCP and UDP alike

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Reply = Callable[[bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample backend that runs: of which service, its name, and where it listens."""

    service: str
    name: str
    address: Address


@asynccontextmanager
async def hello(service: str, name: str) -> AsyncIterator[Sample]:
    """Greets over HTTP, and at ``/clock`` tells the time every second until its visitor leaves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        path = (head.split(maxsplit=2) + [b""] * 2)[1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")
        writer.write(f"hello from {name}\n".encode())
        while path == b"/clock":
            await writer.drain()
            await asyncio.sleep(1)
            writer.write(f"{name}: it is {time.strftime('%H:%M:%S')}\n".encode())

    async with _streams(_bound(socket.SOCK_STREAM), serve) as address:
        yield Sample(service, name, address)


@asynccontextmanager
async def udp_echo(service: str, name: str) -> AsyncIterator[Sample]:
    """Sends back each datagram behind its name."""
    greeting = f"{name}: ".encode()
    async with _datagrams(_bound(socket.SOCK_DGRAM), lambda data: (greeting + data)[:LONGEST_DATAGRAM]) as address:
        yield Sample(service, name, address)


@asynccontextmanager
async def dns(service: str, name: str) -> AsyncIterator[Sample]:
    """Answers every TXT question with its name, over UDP and over TCP, on one port number."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size,) = struct.unpack("!H", await asyncio.wait_for(reader.readexactly(2), PATIENCE))
            reply = answer(await asyncio.wait_for(reader.readexactly(size), PATIENCE), name)
            if reply is None:
                return
            writer.write(struct.pack("!H", len(reply)) + reply)
            await writer.drain()

    stream, datagram = _bound_to_both()
    async with _streams(stream, serve) as address, _datagrams(datagram, lambda query: answer(query, name)):
        yield Sample(service, name, address)


KINDS: Final = {"hello": (hello, 3), "udp-echo": (udp_echo, 2), "both-dns": (dns, 2)}


@asynccontextmanager
async def running() -> AsyncIterator[list[Sample]]:
    """All sample backends, service by service in the order in which they are to register."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(kind(service, f"{service.removeprefix('both-')}-{number}"))
            for service, (kind, count) in KINDS.items()
            for number in range(1, count + 1)
        ]


@asynccontextmanager
async def _streams(sock: socket.socket, serve: Serve) -> AsyncIterator[Address]:
    """A TCP server on a socket that is its own from now on. Leaving ends what it serves."""
    live: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        live.add(task)
        try:
            await serve(reader, writer)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the visitor left, stalled or talks something else; or the demo ends
        finally:
            live.discard(task)
            writer.close()

    address = Address(*sock.getsockname())
    server = await asyncio.start_server(connected, sock=sock, limit=LONGEST_HEAD)
    try:
        yield address
    finally:
        server.close()
        for task in live:
            task.cancel()
        await asyncio.gather(*live, return_exceptions=True)


class Replies(asyncio.DatagramProtocol):
    """Answers each datagram to where it came from."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, source: Any) -> None:
        reply = self._reply(data)
        if reply is not None:
            self._transport.sendto(reply, source)


@asynccontextmanager
async def _datagrams(sock: socket.socket, reply: Reply) -> AsyncIterator[Address]:
    """A UDP server on a socket that is its own from now on."""
    address = Address(*sock.getsockname())
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Replies(reply), sock=sock)
    try:
        yield address
    finally:
        transport.close()


def _bound(kind: socket.SocketKind, port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.bind((HOST, port))
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _bound_to_both() -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket on one number: the kernel gives one that is free for TCP, UDP may have it taken."""
    for _ in range(MOST_ATTEMPTS):
        stream = _bound(socket.SOCK_STREAM)
        try:
            return stream, _bound(socket.SOCK_DGRAM, stream.getsockname()[1])
        except OSError as error:
            stream.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no port number is free for TCP and UDP")
