"""Blocking sockets for tests: every one with a timeout, so that a fault shows as a failure and never as a hang."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import random
import socket
import struct
import termios
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeVar

from harbor.errors import PortTaken
from harbor.model import Address

T = TypeVar("T")

PATIENCE: Final = 10.0
# Below the ephemeral range, so that no outgoing socket of the machine can hold one of them.
PORTS: Final = range(20_000, 30_000)


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def listening(host: str = "127.0.0.1", backlog: int = 128, port: int = 0) -> socket.socket:
    """A TCP listener, for a test that accepts by itself."""
    sock = socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def connected(address: Address, source: str | None = None, receive_buffer: int | None = None) -> socket.socket:
    """A TCP client. A small ``receive_buffer`` makes a reader that is soon full."""
    sock = socket.socket(family_of(address.host), socket.SOCK_STREAM)
    try:
        sock.settimeout(PATIENCE)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            sock.bind((source, 0))
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def datagrams(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound UDP socket, client or backend."""
    sock = socket.socket(family_of(host), socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE)
    sock.bind((host, port))
    return sock


def address_of(sock: socket.socket) -> Address:
    """Where the socket is bound."""
    return Address(*sock.getsockname()[:2])


class Receiving(Protocol):
    """What can be received from, like a socket."""

    def recv(self, size: int, /) -> bytes: ...


def receive_exactly(sock: Receiving, count: int) -> bytes:
    """So many bytes; less only if the peer ended before."""
    parts = bytearray()
    while len(parts) < count:
        data = sock.recv(min(1 << 20, count - len(parts)))
        if not data:
            break
        parts += data
    return bytes(parts)


def receive_all(sock: Receiving) -> bytes:
    """Everything until the end of file; a reset raises."""
    parts = bytearray()
    while data := sock.recv(1 << 20):
        parts += data
    return bytes(parts)


def unsent(sock: socket.socket) -> int:
    """How many bytes the peer's kernel has not acknowledged yet."""
    count = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    return count[0]


def reset(sock: socket.socket) -> None:
    """Close with a reset instead of an end of file."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ends(sock: socket.socket) -> str:
    """How the peer ended: ``"end"`` in order, ``"reset"`` with a reset; what still comes before is dropped."""
    try:
        while sock.recv(1 << 20):
            pass
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    return "end"


def is_silent(sock: socket.socket) -> bool:
    """Whether nothing lies ready to be read, not even an end."""
    sock.setblocking(False)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(PATIENCE)
    return False


def go_deaf(sock: socket.socket) -> None:
    """From now on drop every packet that comes for the socket, as a host does that lost its power."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K, 0 bytes
    attach_filter = 26  # SO_ATTACH_FILTER; Python has no name for it
    sock.setsockopt(socket.SOL_SOCKET, attach_filter, struct.pack("HL", 1, ctypes.addressof(drop_all)))


def on_free_port(bind: Callable[[int], T]) -> T:
    """What ``bind(port)`` returns for a random port that turned out to be free."""
    for port in _random_ports():
        try:
            return bind(port)
        except PortTaken:
            continue
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("unreachable")


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nobody listens now."""
    with listening(host, port=0) as sock:
        return address_of(sock).port


def _random_ports() -> Iterator[int]:
    while True:
        yield random.choice(PORTS)
