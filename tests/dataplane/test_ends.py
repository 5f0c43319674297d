"""Every way to end, in every state: what arrives is all that was sent, or the end is none in order."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import pytest

from harbor.model import Reason
from support.certificates import issue, terms
from support.plane import RunningPlane
from support.sockets import address_of, receive_exactly, reset, unsent
from support.tls_client import TlsClient
from support.waiting import eventually

PIECE: Final = bytes(range(250)) * 64
LAST_CHUNK: Final = b"0\r\n\r\n"


class Client(Protocol):
    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...


class Reading:
    """Receives in a thread until the end, or until ``last`` has come; ``how`` it ended: in order or not."""

    def __init__(self, source: Client, last: bytes | None = None) -> None:
        self.got = bytearray()
        self.how = ""
        self._source, self._last = source, last
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not (self._last and self.got.endswith(self._last)):
                data = self._source.recv(1 << 18)
                if not data:
                    break
                self.got += data
            self.how = "end"
        except TimeoutError:
            self.how = "nothing came"
        except OSError:  # ssl.SSLError is one
            self.how = "reset"

    def result(self) -> tuple[bytes, str]:
        self._thread.join()
        return bytes(self.got), self.how


@dataclass
class Story:
    """A session in which both have said something, and what they have said so far."""

    plane: RunningPlane
    port: int
    raw: socket.socket
    near: Client
    far: socket.socket
    http: bool
    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)

    def say(self, way: str) -> None:
        if way == "down":
            self.far.sendall(PIECE)
            self.down += PIECE
        else:
            said = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if self.http else PIECE
            self.near.sendall(said)
            self.up += said

    def take(self, way: str) -> None:
        """Receive what was said."""
        said, sink = (self.down, self.near) if way == "down" else (self.up, self.far)
        assert receive_exactly(sink, len(said)) == said
        said.clear()

    def stuff(self, way: str) -> None:
        """Let some of it be held, and be no further ahead than that: a sender would wait for ever."""
        source, reactor = self.far if way == "down" else self.raw, self.plane.plane.reactor
        while not reactor.held:
            self.say(way)
            eventually(lambda: reactor.held or not unsent(source))

    def end_client(self) -> None:
        if self.http:
            self.near.sendall(LAST_CHUNK)
            self.up += LAST_CHUNK
        if isinstance(self.near, TlsClient):
            self.near.end()
        else:
            self.raw.shutdown(socket.SHUT_WR)


def begin(plane: RunningPlane, tmp_path: Path, tls: bool, http: bool) -> Story:
    cert = issue(tmp_path, "harbor.test") if tls else None
    backend = plane.listening()
    port = plane.open(tls=terms(cert) if cert else None, http=http)
    plane.backends(port, [address_of(backend)])
    near: Client
    raw = near = plane.client(port, receive_buffer=4096)
    if cert:
        context = ssl.create_default_context()
        context.load_verify_locations(cert.certificate)
        near = TlsClient(raw, context, "harbor.test")
    far = plane.keep(backend.accept()[0])
    far.settimeout(10)
    plane.await_open(port)
    if http:  # both bodies are under way: the request's in chunks, the answer's until the end of the connection
        near.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += receive_exactly(far, 1)
        answer = b"HTTP/1.1 200 OK\r\n\r\n"
        far.sendall(answer)
        assert receive_exactly(near, len(answer)) == answer
    return Story(plane, port, raw, near, far, http)


def client_ends(story: Story) -> None:
    story.end_client()


def backend_ends(story: Story) -> None:
    story.far.shutdown(socket.SHUT_WR)


def client_is_reset(story: Story) -> None:
    reset(story.raw)


def backend_is_reset(story: Story) -> None:
    reset(story.far)


def client_is_cut(story: Story) -> None:
    story.raw.shutdown(socket.SHUT_WR)  # over TLS: without close_notify


def kill(story: Story) -> None:
    assert story.plane.kill() == 1


def remove(story: Story) -> None:
    story.plane.release(story.port, "b1", within=0)


def drain(story: Story) -> None:
    story.plane.release(story.port, "b1", within=0.01)


def delete(story: Story) -> None:
    story.plane.close_port(story.port)


WAYS: Final[dict[Callable[[Story], None], Reason]] = {
    client_ends: Reason.CLIENT_CLOSED,
    backend_ends: Reason.BACKEND_CLOSED,
    client_is_reset: Reason.CLIENT_RESET,
    backend_is_reset: Reason.BACKEND_RESET,
    client_is_cut: Reason.TLS_TRUNCATED,
    kill: Reason.KILLED,
    remove: Reason.BACKEND_REMOVED,
    drain: Reason.DRAINED,
    delete: Reason.SERVICE_DELETED,
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("held", ["nothing", "down", "up"])
@pytest.mark.parametrize("http", [False, True], ids=["bytes", "http"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_what_arrives_is_all_or_does_not_end_in_order(
    plane: RunningPlane, tmp_path: Path, tls: bool, http: bool, held: str, way: Callable[[Story], None]
) -> None:
    if way is client_is_cut and not tls:
        pytest.skip("without TLS that is an end in order")
    ended: list[Reason] = []
    plane.plane.session_ended = lambda _, reason: ended.append(reason)
    story = begin(plane, tmp_path, tls, http)
    if held == "nothing":
        for direction in ("down", "up"):
            story.say(direction)
            story.take(direction)
    else:
        story.stuff(held)
    way(story)
    readings = {}
    if way is not client_is_reset:
        readings["down"] = Reading(story.near)
    if way is not backend_is_reset:
        readings["up"] = Reading(story.far, LAST_CHUNK if http and way is client_ends else None)
    if way is client_ends:
        assert readings["up"].result() == (bytes(story.up), "end")
        story.far.close()
    elif way is backend_ends:
        assert readings["down"].result() == (bytes(story.down), "end")
        if not http:
            story.end_client()
    for direction, reading in readings.items():
        got, how = reading.result()
        sent = bytes(story.up if direction == "up" else story.down)
        assert sent.startswith(got)
        assert how == "reset" or (how == "end" and got == sent), (direction, how, len(got), len(sent))
        if way is client_ends:
            assert how == "end"
    eventually(lambda: ended)
    assert ended == [WAYS[way]]
