"""What the node needs to know of the machine that it runs on."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Final

from harbor.config import Config
from harbor.dataplane.sockets import IP_LOCAL_PORT_RANGE, local_port_range
from harbor.errors import StateUnusable
from harbor.policy.ports import beside, overlaps

OLDEST_PYTHON: Final = (3, 11, 5)  # before it, bytes sent ahead of a TLS handshake pass as decrypted (CVE-2023-40217)
CAP_NET_BIND_SERVICE: Final = 1 << 10


def check_python() -> None:
    """Refuse to run on a Python with known holes. Errors: ``StateUnusable``."""
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        raise StateUnusable(
            f"Python {sys.version.split()[0]} is too old: Harbor needs {wanted} or newer (CVE-2023-40217)"
        )


def ephemeral_ports() -> tuple[int, int] | None:
    """The kernel's range for outgoing connections; None if it cannot be read."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return None
    return int(low), int(high)


def lowest_port() -> int:
    """The lowest port that this process may bind."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:") and int(line.split()[1], 16) & CAP_NET_BIND_SERVICE:
                return 0
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except OSError:
        return 0 if os.geteuid() == 0 else 1024


def source_ports(config: Config, ephemeral: tuple[int, int] | None) -> bytes | None:
    """IP_LOCAL_PORT_RANGE for the node's outgoing sockets; None where they cannot meet its own range anyway.

    Without it, a connection to a backend could take a port of the range as its source port, and the service that
    leases it could not open it. None, too, where nothing can be done about that: no other port is left, or the
    kernel is older than 6.3.
    """
    if ephemeral is None or not overlaps(config.ports.spans, ephemeral):
        return None
    clear = beside(config.ports.spans, ephemeral)
    value = None if clear is None else local_port_range(*clear)
    return value if value is not None and kernel_takes(value) else None


def kernel_takes(source_ports: bytes) -> bool:
    """Whether sockets of this kernel can be given these source ports."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, source_ports)
        except OSError:
            return False
    return True
