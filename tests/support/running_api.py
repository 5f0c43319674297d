"""A node's API on real sockets, and clients for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from harbor.api import AdminToken, ApiServer, tcp_listener, unix_listener
from harbor.config import Config, parse

from support.fake_node import FakeNode

DEADLINE = 20.0  # seconds; against hanging only


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


def configuration(state_dir: Path, extra: str = "") -> Config:
    """A configuration for tests: ports nobody else uses matter only to the real node."""
    return parse(
        f"""
state_dir: {state_dir}
api: {{listen: "127.0.0.1:0"}}
ports: {{ranges: ["40000-40099"], reserved: [40022]}}
backends: {{allow: [127.0.0.0/8]}}
{extra}""",
        "test.yml",
    )


@dataclass
class Answer:
    """A reply, read whole."""

    status: int
    headers: Any
    text: str
    body: Any = field(default=None)

    @property
    def code(self) -> str:
        """The code of a problem, which it must be."""
        assert self.headers["Content-Type"] == "application/problem+json", self.text
        assert self.body["status"] == self.status
        return str(self.body["code"])


class Client:
    """Sends requests to one API, over TCP with the token or over the Unix socket."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str | None) -> None:
        self.session = session
        self.url = url
        self.token = token

    async def __call__(self, method: str, path: str, json_body: Any = None, **more: Any) -> Answer:
        headers = dict(more.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if json_body is not None:
            more["data"] = json.dumps(json_body)
        if "data" in more:
            headers.setdefault("Content-Type", "application/json")
        headers = {name: value for name, value in headers.items() if value is not None}
        async with asyncio.timeout(DEADLINE):
            async with self.session.request(method, self.url + path, headers=headers, **more) as reply:
                text = await reply.text()
                kind = reply.headers.get("Content-Type", "")
                return Answer(reply.status, reply.headers, text, json.loads(text) if "json" in kind and text else None)


@dataclass
class RunningApi:
    """The API, its node, and a client over each kind of socket."""

    config: Config
    node: FakeNode
    server: ApiServer
    token: str
    tcp: Client
    unix: Client

    @property
    def port(self) -> int:
        assert self.server.address is not None
        return self.server.address.port

    async def raw(self, request: bytes) -> bytes:
        """What the API answers on TCP to these bytes until it closes (so ask it to)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(DEADLINE):
                return await reader.read(-1)
        finally:
            writer.close()


@asynccontextmanager
async def running_api(state_dir: Path, extra: str = "") -> AsyncIterator[RunningApi]:
    config = configuration(state_dir, extra)
    node = FakeNode(config)
    token = AdminToken.load_or_create(config.state_dir)
    listeners = [tcp_listener(config.api), unix_listener(config.state_dir)]
    server = ApiServer(node, config, token, listeners)  # type: ignore[arg-type]
    await server.start()
    text = (config.state_dir / "admin.token").read_text().strip()
    connector = aiohttp.UnixConnector(str(config.state_dir / "harbor.sock"))
    async with aiohttp.ClientSession() as tcp, aiohttp.ClientSession(connector=connector) as unix:
        try:
            yield RunningApi(
                config, node, server, text, Client(tcp, str(server.url), text), Client(unix, "http://harbor", None)
            )
        finally:
            await server.stop(5)
