"""A node's API on real sockets, and clients for it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiohttp

from harbor.api import AdminToken, ApiServer, tcp_listener, unix_listener
from harbor.config import Config, parse
from harbor.daemon import running_node
from harbor.node import Node
from support.fake_node import FakeNode

DEADLINE = 20.0  # seconds; against hanging only


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


# Below the ephemeral ports, and another hundred for each process that tests: pinned ports do not meet.
FIRST_PORT = 20_000 + os.getpid() % 90 * 100
LAST_PORT = FIRST_PORT + 99
RESERVED_PORT = FIRST_PORT + 22


def configuration(state_dir: Path, extra: str = "", allow: str = "127.0.0.0/8", ports: range | None = None) -> Config:
    """A node with a hundred ports of its own, one of them reserved, and backends on loopback or elsewhere."""
    some = range(FIRST_PORT, LAST_PORT + 1) if ports is None else ports
    return parse(
        f"""
state_dir: {state_dir}
api: {{listen: "127.0.0.1:0"}}
ports: {{ranges: ["{some[0]}-{some[-1]}"], reserved: [{RESERVED_PORT}]}}
backends: {{allow: [{allow}]}}
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


N = TypeVar("N", Node, FakeNode)


@dataclass
class RunningApi(Generic[N]):
    """The API, its node, and a client over each kind of socket."""

    config: Config
    node: N
    server: ApiServer
    token: str
    tcp: Client
    unix: Client

    @property
    def port(self) -> int:
        assert self.server.address is not None
        return self.server.address.port

    @property
    def names(self) -> list[str]:
        """The names of the services that exist."""
        return [view.service.name for view in self.node.services()]

    async def raw(self, request: bytes) -> bytes:
        """What the API answers on TCP to these bytes until it closes (so ask it to)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(DEADLINE):
                return await reader.read(-1)
        finally:
            writer.close()


Api = RunningApi[Node]
StagedApi = RunningApi[FakeNode]


@asynccontextmanager
async def running_api(
    state_dir: Path, extra: str = "", allow: str = "127.0.0.0/8", ports: range | None = None
) -> AsyncIterator[Api]:
    """The API of a whole node; ``extra`` is added to its configuration."""
    config = configuration(state_dir, extra, allow, ports)
    async with running_node(config, drain=0) as running, _clients(config, running.node, running.api) as api:
        yield api


@asynccontextmanager
async def staged_api(state_dir: Path) -> AsyncIterator[StagedApi]:
    """The API of a node whose sessions, figures and troubles the test makes up."""
    config = configuration(state_dir)
    node = FakeNode(config)
    token = AdminToken.load_or_create(state_dir)
    server = ApiServer(node, config, token, [tcp_listener(config.api), unix_listener(state_dir)])  # type: ignore[arg-type]
    await server.start()
    try:
        async with _clients(config, node, server) as api:
            yield api
    finally:
        await server.stop(5)


@asynccontextmanager
async def _clients(config: Config, node: N, server: ApiServer) -> AsyncIterator[RunningApi[N]]:
    token = (config.state_dir / "admin.token").read_text().strip()
    connector = aiohttp.UnixConnector(str(config.state_dir / "harbor.sock"))
    async with aiohttp.ClientSession() as tcp, aiohttp.ClientSession(connector=connector) as unix:
        url = str(server.url)
        yield RunningApi(config, node, server, token, Client(tcp, url, token), Client(unix, "http://harbor", None))
