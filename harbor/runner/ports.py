"""Free ports for instances, outside of what the kernel and the node give away."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from harbor.errors import HarborError

LOWEST: Final = 20_000  # below, many ports have owners by custom
USUAL_EPHEMERAL: Final = 32_768  # where Linux begins to give out ports to whoever connects
MOST_TRIES: Final = 500


class Ports:
    """The ports that instances listen on. One is taken by who asks and free again when it is given back."""

    def __init__(self, leased: Iterable[range] = ()) -> None:
        """``leased`` are the ranges from which the node leases: its ports must stay free for it."""
        kept = {port for ports in leased for port in ports}
        self._all = [port for port in range(LOWEST, max(LOWEST + 1, _lowest_ephemeral())) if port not in kept]
        self._taken: set[int] = set()

    def take(self) -> int:
        """A port on which nobody listens now, neither TCP nor UDP. Errors: ``HarborError`` if none is found."""
        for port in random.choices(self._all, k=MOST_TRIES) if self._all else ():
            if port not in self._taken and is_free(port):
                self._taken.add(port)
                return port
        raise HarborError(
            f"no free port was found for an instance between {LOWEST} and the kernel's ephemeral ports; "
            "stop something, or raise net.ipv4.ip_local_port_range"
        )

    def give_back(self, ports: Iterable[int]) -> None:
        self._taken.difference_update(ports)


def is_free(port: int) -> bool:
    """Whether the port can be bound on every address. Between this look and the app's own bind it may be lost again:
    then the app ends, and its next life gets another one."""
    family = socket.AF_INET6 if _has_ipv6() else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                sock.bind(("", port))
            except OSError:
                return False
    return True


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


def _lowest_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return USUAL_EPHEMERAL
