"""The baseline: what one writes first with asyncio. Each line of the file: protocol host port backend-host port."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Move bytes one way until they end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


class Replies(asyncio.DatagramProtocol):
    """The backend's side of one flow."""

    def __init__(self, front: asyncio.DatagramTransport, client: tuple[str, int]) -> None:
        self.front, self.client = front, client

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.front.sendto(data, self.client)


class Front(asyncio.DatagramProtocol):
    """The clients' side: one backend socket per client."""

    def __init__(self, backend: tuple[str, int]) -> None:
        self.backend = backend
        self.flows: dict[tuple[str, int], asyncio.Task[asyncio.DatagramTransport]] = {}

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        flow = self.flows.get(addr)
        if flow is None:
            flow = self.flows[addr] = asyncio.ensure_future(self.connect(addr))
        if flow.done():
            flow.result().sendto(data)
        else:
            flow.add_done_callback(lambda done: done.result().sendto(data))

    async def connect(self, client: tuple[str, int]) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Replies(self.transport, client), remote_addr=self.backend
        )
        return transport


async def tcp(host: str, port: int, backend: tuple[str, int]) -> None:
    """Forward one TCP port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back_writer = await asyncio.open_connection(*backend)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(copy(reader, back_writer), copy(back_reader, writer))
        finally:
            writer.close()
            back_writer.close()

    await asyncio.start_server(serve, host, port, backlog=4096)


async def main(lines: list[str]) -> None:
    """Forward what these lines say, until killed."""
    loop = asyncio.get_running_loop()
    for line in lines:
        protocol, host, port, backend_host, backend_port = line.split()
        backend = (backend_host, int(backend_port))
        if protocol == "tcp":
            await tcp(host, int(port), backend)
        else:
            front = Front(backend)
            await loop.create_datagram_endpoint(lambda front=front: front, local_addr=(host, int(port)))  # type: ignore[misc]
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_text().splitlines()))
