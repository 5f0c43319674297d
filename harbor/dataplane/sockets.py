"""Sockets as relays want them: which options, why, and how a port is bound.

Options set on a listening socket are inherited by what it accepts, so a client socket costs no calls. A backend
socket gets only what a short session needs; ``keep_alive`` adds the rest to those that grow old.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harbor.dataplane.introduced import Introduced
from harbor.errors import PortTaken
from harbor.model import Address

# Python 3.11's socket module lacks these (linux/in.h, asm-generic/socket.h).
IP_PKTINFO: Final = 8
IP_LOCAL_PORT_RANGE: Final = 51
SO_MEMINFO: Final = 55
SK_MEMINFO_DROPS: Final = 8  # index into the array that SO_MEMINFO returns
SIOCOUTQ: Final = 0x5411

BACKLOG: Final = 4096  # the kernel caps it at net.core.somaxconn
# The highest descriptor numbers are not for ports: a node that cannot even be asked what is wrong is worse off than one
# with a port less. A quarter where there are few.
KEPT_BACK: Final = 64
DATAGRAM_BUFFER: Final = 8 << 20  # bytes; a burst of 20,000 datagrams must find room while a turn is busy

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Liveness:
    """How dead peers are found: silent for ``idle`` seconds, then a probe every ``interval``.

    ``unacked`` is TCP_USER_TIMEOUT: how long sent data, and probes, may stay unacknowledged; ``probes`` counts only
    where it is 0 (tcp_keepalive_timer). It also ends a connection whose reader has kept its window shut for so
    long, hence minutes: a paused download is not dead.
    """

    idle: int = 60
    interval: int = 10
    probes: int = 6
    unacked: int = 300

    def apply(self, sock: socket.SocketType) -> None:
        """Set the options on one socket."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self.idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self.interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, self.probes)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self.unacked * 1000)


def family_of(host: str) -> socket.AddressFamily:
    """The address family of a numeric address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bind_tcp(host: str, port: int, liveness: Liveness) -> socket.socket:
    """A listening, non-blocking TCP socket; ``::`` takes IPv4 too. Errors: ``PortTaken``.

    It listens at once, since only listen() tells whether the port is really free: somebody's ephemeral source
    port lets bind() pass. Clients wait in its backlog until the relay starts to accept.
    """
    sock = _new_socket("TCP", host, port, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _set_dual_stack(sock, host)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # An acknowledgement then rides on the answer: one packet less per exchange.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        liveness.apply(sock)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _port_taken("TCP", host, port, error) from error
    return sock


def bind_udp(host: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket that tells which local address a datagram came to. Errors: ``PortTaken``."""
    sock = _new_socket("UDP", host, port, socket.SOCK_DGRAM)
    try:
        _set_dual_stack(sock, host)
        if is_wildcard(host):
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        _widen(sock, socket.SO_RCVBUF, DATAGRAM_BUFFER)
        _widen(sock, socket.SO_SNDBUF, DATAGRAM_BUFFER)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise _port_taken("UDP", host, port, error) from error
    return sock


def plain_address(address: Any) -> Address:
    """A socket address as people write it, IPv4 clients of a dual-stack socket as IPv4; of a proxy, its client's."""
    if isinstance(address, Introduced):
        return address.client
    host: str = address[0]
    return Address(host.removeprefix("::ffff:") if "." in host else host, address[1])


def is_local(host: str) -> bool:
    """Whether a numeric address belongs to this machine: the kernel lets us bind it, or it does not."""
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def is_wildcard(host: str) -> bool:
    """Whether binding to this address means every address."""
    return host in ("0.0.0.0", "::")


def local_port_range(lowest: int, highest: int) -> bytes:
    """The value of IP_LOCAL_PORT_RANGE that keeps ephemeral ports between these two."""
    return struct.pack("=I", lowest | highest << 16)


def source_port_range(option: bytes | None) -> range:
    """The ports that sockets with this value of IP_LOCAL_PORT_RANGE (None: without it) are given as source ports."""
    if option is not None:
        (packed,) = struct.unpack("=I", option)
        return range(packed & 0xFFFF, (packed >> 16) + 1)
    try:
        lowest, highest = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return range(1024, 65536)
    return range(int(lowest), int(highest) + 1)


def kernel_drops(sock: socket.socket) -> int:
    """How many datagrams the kernel dropped because this socket's receive queue was full (modulo 2**32)."""
    info = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64)
    return int(struct.unpack_from("=I", info, SK_MEMINFO_DROPS * 4)[0])


def _new_socket(kind: str, host: str, port: int, type_: int) -> socket.socket:
    """A non-blocking socket for a port, if descriptors are left. Errors: ``PortTaken``."""
    try:
        sock = socket.socket(family_of(host), type_ | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise _port_taken(kind, host, port, error) from error
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if sock.fileno() >= most - min(KEPT_BACK, most // 4):
        sock.close()
        raise _port_taken(kind, host, port, OSError(errno.EMFILE, ""))
    return sock


def _set_dual_stack(sock: socket.socket, host: str) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)


def _widen(sock: socket.socket, option: int, size: int) -> None:
    """Ask for a large buffer; without privileges the kernel gives what net.core.*mem_max allows."""
    force = {socket.SO_RCVBUF: 33, socket.SO_SNDBUF: 32}[option]  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, option, size)


def _port_taken(kind: str, host: str, port: int, error: OSError) -> PortTaken:
    where = f"{kind} port {port} on {host}"
    if error.errno == errno.EADDRINUSE:
        return PortTaken(f"{where} is in use by another process")
    if error.errno == errno.EADDRNOTAVAIL:
        return PortTaken(f"{where} cannot be bound: this machine does not have that address")
    if error.errno == errno.EACCES:
        return PortTaken(f"{where} cannot be bound: ports below 1024 need CAP_NET_BIND_SERVICE")
    if error.errno == errno.EMFILE:
        return PortTaken(f"{where} cannot be opened: RLIMIT_NOFILE leaves no descriptor for it; raise that limit")
    return PortTaken(f"{where} cannot be bound: {os.strerror(error.errno or 0)}")
