"""Whose connection a backend sees: found by the address of our own end of it, which the backend sees as its peer.

Nothing is kept for this: who asks makes the node look through its sessions, in pieces, so that nobody waits for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from harbor.dataplane.session import TcpSession
from harbor.dataplane.sockets import plain_address
from harbor.dataplane.udp import UdpFlow
from harbor.model import Address

PIECE: Final = 250  # sessions that are looked at in one go, for a millisecond or so


def with_local(sessions: Iterable[TcpSession | UdpFlow], local: Address) -> Iterator[TcpSession | UdpFlow | None]:
    """Those whose backend sees ``local`` as its peer; None after each piece, when others should have their turn."""
    for number, session in enumerate(sessions, 1):
        if _local_of(session) == local:
            yield session
        if number % PIECE == 0:
            yield None


def _local_of(session: TcpSession | UdpFlow) -> Address | None:
    """Our address at the backend's side, of a dial under way too: the backend may be quicker than we are."""
    backend = session.backend
    if backend is None and isinstance(session, TcpSession) and session.dial is not None:
        backend = session.dial.attempt
    if backend is None or backend.fileno() < 0:
        return None
    return plain_address(backend.getsockname())
