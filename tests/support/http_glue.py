"""The least that moves bytes through an ``HttpRelay``: a listener of its own, one backend, no timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from harbor.model import Address
from harbor.policy.http import BackendRefused, End, HttpRefused, HttpRelay

READ: Final = 1 << 16


class Glue:
    """Relays between clients and ``backend``; ``relays`` and ``refused`` are of all connections so far."""

    def __init__(self, backend: Address) -> None:
        self.backend = backend
        self.address = Address("", 0)
        self.relays: list[HttpRelay] = []
        self.refused: list[HttpRefused | BackendRefused] = []
        self.sessions: set[asyncio.Task[None]] = set()

    async def accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.sessions.add(task)
        try:
            await self.serve(client_in, client_out)
        finally:
            self.sessions.discard(task)

    async def serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        peer = client_out.get_extra_info("peername")
        relay = HttpRelay(client=Address(*peer[:2]), port=443, scheme="https", trusted=False)
        self.relays.append(relay)
        backend_in, backend_out = await asyncio.open_connection(*self.backend)
        session = Session(self, relay, client_out, backend_out)
        try:
            async with asyncio.TaskGroup() as group:
                halves = [
                    group.create_task(session.inbound(client_in)),
                    group.create_task(session.outbound(backend_in)),
                ]
                await session.over.wait()
                for half in halves:
                    half.cancel()
        finally:
            for writer in (client_out, backend_out):
                writer.close()
            for writer in (client_out, backend_out):
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()


class Session:
    """One connection of a client and the one of the backend that it is tied to."""

    def __init__(
        self, glue: Glue, relay: HttpRelay, client: asyncio.StreamWriter, backend: asyncio.StreamWriter
    ) -> None:
        self.glue = glue
        self.relay = relay
        self.client = client
        self.backend = backend
        self.over = asyncio.Event()
        self.room = asyncio.Event()
        self.ended = 0

    async def inbound(self, source: asyncio.StreamReader) -> None:
        while not self.over.is_set():
            while self.relay.holds_client and not self.over.is_set():
                self.room.clear()
                await self.room.wait()
            data = await self.read(source)
            if not data:
                self.at_end(self.relay.client_ended(), self.client, self.backend)
                return
            self.forward(data)

    async def outbound(self, source: asyncio.StreamReader) -> None:
        while not self.over.is_set():
            data = await self.read(source)
            if not data:
                self.at_end(self.relay.backend_ended(), self.backend, self.client)
                return
            try:
                self.client.write(self.relay.from_backend(data))
            except BackendRefused as refused:
                self.refuse(refused)
                return
            while self.relay.may_continue:
                self.forward(b"")
            self.room.set()
            if self.relay.is_over:
                self.over.set()

    async def read(self, source: asyncio.StreamReader) -> bytes:
        try:
            return await source.read(READ)
        except ConnectionError:
            return b""

    def forward(self, data: bytes) -> None:
        try:
            self.backend.write(self.relay.from_client(data))
        except HttpRefused as refused:
            self.refuse(refused)

    def refuse(self, refused: HttpRefused | BackendRefused) -> None:
        self.glue.refused.append(refused)
        page = self.relay.page(refused.status, refused.words)
        if page:
            self.client.write(page)
        else:
            self.client.transport.abort()
        self.backend.transport.abort()
        self.over.set()

    def at_end(self, end: End, ended: asyncio.StreamWriter, other: asyncio.StreamWriter) -> None:
        self.ended += 1
        if end is End.FORWARD:
            if not other.is_closing():
                other.write_eof()
            if self.ended == 2:
                self.over.set()
        elif end is not End.LATER:
            if end is End.UNANSWERED:
                self.client.write(self.relay.page(502, "The backend closed the connection without an answer"))
            elif end is End.CUT:
                other.transport.abort()
            self.over.set()


@asynccontextmanager
async def glued(backend: Address) -> AsyncIterator[Glue]:
    """A listener in front of ``backend``."""
    glue = Glue(backend)
    server = await asyncio.start_server(glue.accept, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        glue.address = Address(*server.sockets[0].getsockname())
        yield glue
        for session in list(glue.sessions):
            session.cancel()
        await asyncio.gather(*glue.sessions, return_exceptions=True)
