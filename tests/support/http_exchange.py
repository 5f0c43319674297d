"""An ``HttpRelay`` between a client that has sent everything and a backend that answers each request at once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from harbor.model import Address
from harbor.policy.http import HttpRefused, HttpRelay

CLIENT = Address("192.0.2.7", 40_000)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def relay(
    *, client: Address = CLIENT, scheme: str = "https", trusted: bool = False, hsts: str | None = None
) -> HttpRelay:
    assert scheme in ("https", "http")
    kind = "https" if scheme == "https" else "http"
    return HttpRelay(client=client, port=8443, scheme=kind, trusted=trusted, hsts=hsts)


class Exchange:
    """What went to the backend, and what came back, when ``pieces`` came from the client one after another."""

    def __init__(self, between: HttpRelay, pieces: Iterable[bytes], answer: bytes = OK) -> None:
        self.relay = between
        self.forwarded = b""
        self.returned = b""
        self.refused: HttpRefused | None = None
        self._answer = answer
        try:
            for piece in pieces:
                self._send(memoryview(piece))
        except HttpRefused as refused:
            self.refused = refused
            self.returned += between.page(refused.status, refused.words)

    def _send(self, data: bytes | memoryview) -> None:
        self.forwarded += self.relay.from_client(data)
        while self.relay.waits_for_backend:
            self.returned += self.relay.from_backend(memoryview(self._answer))
            if not self.relay.may_continue:
                break
            self.forwarded += self.relay.from_client(b"")

    @property
    def status(self) -> int | None:
        return None if self.refused is None else self.refused.status


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces, cut at these places."""
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(at)]
