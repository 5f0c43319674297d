"""Client sockets that outlive their session for a moment, so that what was sent to them arrives.

Closing a socket that has unread data makes the kernel send a reset, and a reset may overtake data that the client has
not read yet (RFC 1122 §4.2.2.13; RFC 9293 §3.6.1). Both waits are short and bounded, and each socket
stays in the descriptor budget until it is closed.
"""

from __future__ import annotations

import fcntl
import struct
from _socket import socket as Socket  # noqa: N812
from socket import SO_LINGER, SOL_SOCKET
from typing import Final

from harbor.dataplane.budget import PER_LINGERING, Descriptors
from harbor.dataplane.reactor import READ_EDGES, Calling, Reactor
from harbor.dataplane.sockets import RESET_ON_CLOSE, SIOCOUTQ

DISCARD_FOR: Final = 2.0  # seconds that a client may go on sending after its answer is complete
DELIVER_FOR: Final = 0.5  # seconds that a client has to take the last bytes before the reset
LOOK_EVERY: Final = 0.02  # seconds between looks at the send queue, which has no event of its own
READS: Final = 8  # at one go before the others get their turn


def discard_until_end(reactor: Reactor, descriptors: Descriptors, client: Socket) -> None:
    """Read and forget what the client still sends until it ends, then close it. Takes over the socket."""

    def on_news(_events: int) -> None:
        try:
            for _ in range(READS):
                if not client.recv_into(reactor.buffer):
                    break
            else:
                reactor.again(more)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        close()

    def more() -> None:
        if client.fileno() >= 0:
            on_news(0)

    def close() -> None:
        timer.cancel()
        _close(reactor, descriptors, client)

    timer = reactor.loop.call_later(DISCARD_FOR, close)
    reactor.watch(client.fileno(), Calling(on_news), READ_EDGES)


def reset_when_delivered(reactor: Reactor, descriptors: Descriptors, client: Socket) -> None:
    """Reset the client once it has acknowledged what was sent to it. Takes over the socket."""
    end = reactor.loop.time() + DELIVER_FOR

    def look() -> None:
        if unacknowledged(client) and reactor.loop.time() < end:
            reactor.loop.call_later(LOOK_EVERY, look)
            return
        client.setsockopt(SOL_SOCKET, SO_LINGER, RESET_ON_CLOSE)
        _close(reactor, descriptors, client)

    look()


def unacknowledged(sock: Socket) -> int:
    """How many bytes the peer has not acknowledged yet."""
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), SIOCOUTQ, bytes(4)))[0])


def _close(reactor: Reactor, descriptors: Descriptors, client: Socket) -> None:
    reactor.discard(client.detach())
    descriptors.give(PER_LINGERING)
