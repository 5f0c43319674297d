"""Real HTTP servers that write down what they understood: nginx, and uvicorn with each of its parsers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import uvicorn
from uvicorn.server import ServerState

from harbor.model import Address
from support.programs import Programs
from support.running_api import until
from support.smuggling import Seen

NGINX: Final = """
daemon off; master_process off; pid {root}/nginx.pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{
  {temporary} client_body_buffer_size 1m; large_client_header_buffers 4 40k;
  map $upstream_status $whole {{ "" 0; default 1; }}
  log_format seen escape=json
    '{{"method": "$request_method", "target": "$request_uri", "body": "$request_body",'
    ' "host": "$http_host", "for": "$http_x_forwarded_for", "forwarded": "$http_forwarded"}}';
  server {{
    listen 127.0.0.1:{port};
    access_log {root}/seen.log seen if=$whole;
    location / {{ proxy_pass http://unix:{root}/inner.sock; }}
  }}
  server {{ listen unix:{root}/inner.sock; access_log off; location / {{ return 200 "ok"; }} }}
}}
"""


class Witness(Protocol):
    """A server at ``address`` that says what it saw since it was asked last, once all connections have settled."""

    address: Address

    async def seen(self) -> list[Seen]: ...


class Nginx:
    """nginx writes down requests that it passed on to another server, which it does when it has them whole."""

    def __init__(self, servers: Programs, root: Path, port: int) -> None:
        self.address = Address("127.0.0.1", port)
        self._log = root / "seen.log"
        self._read = 0
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {root}/{kind};" for kind in kinds)
        (root / "witness.conf").write_text(NGINX.format(root=root, port=port, temporary=temporary))
        servers.start("nginx", "-p", root, "-c", root / "witness.conf", "-e", "stderr", port=port)

    async def seen(self) -> list[Seen]:
        """One process serves one thing after another: when it has seen a request of ours, it has seen all before."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(b"GET /last HTTP/1.1\r\nHost: witness\r\nConnection: close\r\n\r\n")
        await reader.read()
        writer.close()
        await until(lambda: '"target": "/last"' in self._log.read_text()[self._read :])
        lines = self._log.read_text()[self._read :].splitlines()
        self._read = self._log.stat().st_size
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        assert all(row["for"] == "127.0.0.1" for row in rows if row["host"] != "witness")
        assert all(row["forwarded"] == "for=127.0.0.1;proto=https" for row in rows if row["host"] != "witness")
        return [Seen(row["method"], row["target"], row["body"].encode()) for row in rows if row["host"] != "witness"]


class Uvicorn:
    """An application that reads each request to its end before it answers."""

    def __init__(self, parser: Literal["httptools", "h11"]) -> None:
        self.address = Address("", 0)
        self._seen: list[Seen] = []
        self._state = ServerState()
        self._config = uvicorn.Config(
            self._app,
            interface="asgi3",
            http=parser,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        self._config.load()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        told = [value for name, value in scope["headers"] if name in (b"x-forwarded-for", b"forwarded")]
        assert told == [b"127.0.0.1", b"for=127.0.0.1;proto=https"]
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self._seen.append(Seen(scope["method"], target.decode(), body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Uvicorn]:
        protocol: Any = self._config.http_protocol_class
        server = await asyncio.get_running_loop().create_server(
            lambda: protocol(config=self._config, server_state=self._state, app_state={}), "127.0.0.1", 0
        )
        async with server:
            self.address = Address(*server.sockets[0].getsockname())
            yield self
            await self.settled()

    async def settled(self) -> None:
        await until(lambda: not self._state.connections and not self._state.tasks)

    async def seen(self) -> list[Seen]:
        await self.settled()
        seen, self._seen = self._seen, []
        return seen
