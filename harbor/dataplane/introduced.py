"""Clients of which a proxy has told us. Plain Python: compiled classes cannot be tuples, nor errors of the system."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harbor.model import Address


class Introduced(tuple[Any, ...]):
    """The socket address of whom we answer, and for whom it speaks. ``destination``: where the client had connected to,
    None if the proxy did not tell. ``header`` is what a proxy may put in front of each datagram of this client.
    """

    client: Address
    destination: Address | None
    header: bytes

    def __new__(
        cls, peer: Iterable[Any], client: Address, destination: Address | None, header: bytes = b""
    ) -> Introduced:
        self = super().__new__(cls, peer)
        self.client = client
        self.destination = destination
        self.header = header
        return self


class Unwanted(OSError):
    """A datagram that is not forwarded, and has been counted as dropped."""
