"""The API on its sockets: uvicorn's HTTP protocol under the node's own event loop.

uvicorn's ``Server`` is not used: it takes the process's signals, and wakes ten times a second for a date header.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import uvicorn
from uvicorn.server import ServerState

from harbor.api.app import Surfaces, build_app
from harbor.api.broker.app import build_broker
from harbor.api.connection import MOST_CONNECTIONS, Connection
from harbor.api.events import Readers
from harbor.api.gate import Gate
from harbor.api.gateway.standing import Standing
from harbor.api.tokens import AdminToken, Credentials, ServiceToken
from harbor.errors import StateUnusable
from harbor.model import Address

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from harbor.config import Api, Config
    from harbor.node import Node

KEEP_ALIVE: Final = 5  # seconds


class ApiServer:
    """Serves ``node`` on listening sockets (see ``harbor.api.listening``), TCP ones with TLS where it is configured.

    Closing: the server owns the sockets from the beginning. ``stop`` closes them, ends event streams at once,
    gives other requests their grace, and removes the Unix socket's file.
    """

    def __init__(self, node: Node, config: Config, token: AdminToken, listeners: Sequence[socket.socket]) -> None:
        self._listeners = tuple(listeners)
        self._readers = Readers()
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._tls = tls_context(config.api)
        self._files = [_identity(listener) for listener in listeners if listener.family == socket.AF_UNIX]
        gateway, broker = config.gateway, config.broker
        self.standing = Standing(config.node.id, waiting=gateway is not None and gateway.cloud_controller != "")
        app: ASGIApp = build_app(node, self._readers, self.standing)
        if broker is not None:
            app = Surfaces(app, build_broker(node, broker, self.url_from(config.node.hostname or config.node.host)))
        gate = Gate(
            app,
            node,
            token,
            host_names(config),
            None if gateway is None else ServiceToken(gateway.token.get_secret_value().encode()),
            None if broker is None else Credentials(broker.accepted),
        )
        self._uvicorn = uvicorn.Config(
            gate,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # its warnings are about clients: anybody could fill the log
            access_log=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE,
        )

    @property
    def address(self) -> Address | None:
        """Where it listens on TCP; None without a TCP socket."""
        for listener in self._listeners:
            if listener.family != socket.AF_UNIX:
                return Address(*listener.getsockname()[:2])
        return None

    @property
    def url(self) -> str | None:
        """The same as the beginning of a URL."""
        return None if self.address is None else f"{self._scheme}://{self.address}"

    def url_from(self, host: str) -> str:
        """The same for others, who reach this node as ``host``: every address is no place to go to."""
        if self.address is None:
            return f"{self._scheme}://{host}"
        everywhere = ipaddress.ip_address(self.address.host).is_unspecified
        return f"{self._scheme}://{Address(host, self.address.port) if everywhere else self.address}"

    @property
    def _scheme(self) -> str:
        return "http" if self._tls is None else "https"

    async def start(self) -> None:
        """Return once requests are answered."""
        self._uvicorn.load()
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            if listener.family == socket.AF_UNIX:
                self._servers.append(await loop.create_unix_server(self._connection, sock=listener))
            else:
                self._servers.append(await loop.create_server(self._connection, sock=listener, ssl=self._tls))

    async def stop(self, grace: float) -> None:
        """Stop accepting, let what runs finish for up to ``grace`` seconds, then cut it."""
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            listener.close()
        for path, identity in self._files:
            _remove_file(path, identity)
        self._readers.stopping.set()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=grace)
        for task in list(self._state.tasks):
            task.cancel()
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def _connection(self) -> Any:
        return Connection(self._uvicorn, self._state, {}, asyncio.get_running_loop())


def host_names(config: Config) -> frozenset[str]:
    """The names under which clients may address this node's API."""
    names = [config.node.host, config.node.hostname, config.node.ext_host, config.node.ext_hostname]
    if config.gateway is not None:
        names.append(urlsplit(config.gateway.url).hostname or "")
    return frozenset(name.lower() for name in names if name)


def tls_context(api: Api) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the API's certificate; None where none is configured.

    Errors: ``StateUnusable`` (``api_certificate_unusable``) if the files cannot be used.
    """
    if api.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(api.cert, api.key)
    except (OSError, ssl.SSLError) as exc:
        raise StateUnusable(
            f"api.cert {api.cert} and api.key {api.key} cannot be used: {exc}", code="api_certificate_unusable"
        ) from exc
    return context


def _identity(listener: socket.socket) -> tuple[str, tuple[int, int]]:
    path = listener.getsockname()
    status = os.stat(path)
    return path, (status.st_dev, status.st_ino)


def _remove_file(path: str, identity: tuple[int, int]) -> None:
    """Remove the socket's file if it is still ours and not one that a later node put there."""
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) == identity:
            os.unlink(path)
    except FileNotFoundError:
        pass
