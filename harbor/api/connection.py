"""One HTTP connection: uvicorn's, with bounds on what precedes the body and on what follows a refusal."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from harbor.api.problem import problem
from harbor.errors import HarborError

# Requests are answered with 503 beyond this.
MOST_CONNECTIONS: Final = 512
# Of the descriptors of the process, what connections over TCP may take: who says nothing must not take those of ports.
SHARE: Final = 1 / 4
# What a request line and its headers may take together; common servers allow 8 KiB for each line.
MAX_HEAD: Final = 32 * 1024
# What is still read of a request that was answered already, so that the client can finish writing and read the
# answer; more than this, and the connection is cut.
MAX_LEFTOVER: Final = 1024 * 1024
# Seconds for a whole request, from the connection or its first byte to its last one: there are few connections, and
# who says nothing must not have them all.
READ_TIMEOUT: Final = 10.0


class Connection(HttpToolsProtocol):
    """Knows who is at the other end of a Unix socket, and gives up on heads and bodies that are endless or slow."""

    is_local = False
    peer_uid: int | None = None

    _in_head = True
    _heads = 0  # how many were complete
    _pending = 0  # bytes of a head that is not complete
    _head_size = 0  # bytes of the head understood so far
    _leftover = 0
    _deadline: asyncio.TimerHandle | None = None  # while a request is awaited or read

    def abort(self) -> None:
        """Close at once, without sending what is still queued."""
        self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        self.is_local = peer.family == socket.AF_UNIX
        if self.is_local:
            self.peer_uid = _peer_uid(peer)
        elif len(self.connections) > min(MOST_CONNECTIONS, SHARE * resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
            self.abort()
            return
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head, heads = self._in_head, self._heads
        if was_in_head and (self.cycle is None or self.cycle.response_complete):
            self._await_request()
        super().data_received(data)
        if was_in_head and self._in_head and heads == self._heads and not self.transport.is_closing():
            self._pending += len(data)
            if self._pending > MAX_HEAD:
                self._refuse(_head_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["harbor.connection"] = self
        self._head_size = self._leftover = 0
        self._await_request()

    def on_url(self, url: bytes) -> None:
        if not self.url and url[:1] not in (b"/", b"*"):
            raise _invalid()  # for a proxy, which this is not; its host need not be the one that Host names
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._heads += 1
        self._pending = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self._leftover += len(body)
            if self._leftover > MAX_LEFTOVER:
                self.abort()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._end_deadline()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if self._head_size > MAX_HEAD:
            self._refuse(_head_too_large())
        else:
            self._refuse(_invalid())

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(READ_TIMEOUT, self._too_slow)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        """Say so, unless that would get into the answer to this request or to an earlier one."""
        self._deadline = None
        cycle = self.cycle
        if self.pipeline or (cycle and not cycle.response_complete and (self._in_head or cycle.response_started)):
            self.abort()
        else:
            self._refuse(
                HarborError(
                    f"the request took longer than {READ_TIMEOUT:g} s to arrive", code="request_timeout", status=408
                )
            )

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD:
            raise _head_too_large()  # the parser stops and asks for a refusal

    def _refuse(self, error: HarborError) -> None:
        """Answer what the application never got to see, and close."""
        reply = problem(error, {"Connection": "close"})
        lines = [f"HTTP/1.1 {error.status} {error.code}".encode()]
        lines += [name + b": " + value for name, value in reply.raw_headers]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(reply.body))
        self.transport.close()


def _invalid() -> HarborError:
    return HarborError("this is not a valid HTTP/1.1 request", code="http_invalid", status=400)


def _head_too_large() -> HarborError:
    return HarborError(
        f"request line and headers are larger than {MAX_HEAD} bytes",
        code="head_too_large",
        status=431,
    )


def _peer_uid(peer: socket.socket) -> int | None:
    """The user at the other end, as the kernel knows it (``struct ucred``: pid, uid, gid)."""
    try:
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    return int(struct.unpack("3i", credentials)[1])
