"""Ports for a node of a test: a block that no other test of this machine uses at the same time."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from support.sockets import family_of

# Below both the ephemeral ports and those that other tests choose at random.
BLOCKS: Final = range(10_000, 20_000, 100)


@contextmanager
def port_block(size: int) -> Iterator[range]:
    """So many neighbouring ports, all free now; they stay this test's own until the block ends.

    An abstract Unix socket stands for the claim: the kernel gives it up with the process, however that ends.
    """
    assert size <= BLOCKS.step
    for first in random.sample(BLOCKS, len(BLOCKS)):
        ports = range(first, first + size)
        with socket.socket(socket.AF_UNIX) as claim:
            try:
                claim.bind(f"\0harbor-tests-{first}")
            except OSError:
                continue
            if all(is_free(port) for port in ports):
                yield ports
                return
    raise AssertionError("no block of ports is free")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether TCP and UDP could be bound."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family_of(host), kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError:
                return False
    return True


def open_ports(ports: Sequence[int]) -> dict[int, set[str]]:
    """Which of these ports of this machine are listened on, by what /proc shows: port -> {"tcp", "udp"}."""
    found: dict[int, set[str]] = {}
    for kind, state in (("tcp", "0A"), ("udp", "07")):
        for table in (kind, f"{kind}6"):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/net/{table}") as lines:
                for fields in [line.split() for line in lines][1:]:
                    port = int(fields[1].rpartition(":")[2], 16)
                    if port in ports and fields[3] == state:
                        found.setdefault(port, set()).add(kind)
    return found
