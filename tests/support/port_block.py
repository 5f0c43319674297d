"""Ports for a node of a test: a block that no other test of this machine uses at the same time."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

# Below both the ephemeral ports and those that other tests choose at random.
BLOCKS: Final = range(10_000, 20_000, 100)
KINDS: Final = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
LOOPBACKS: Final = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


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
            if not open_ports(ports):
                yield ports
                return
    raise AssertionError("no block of ports is free")


def open_ports(ports: Sequence[int]) -> dict[int, set[str]]:
    """On which of these ports of 127.0.0.1 or ::1 somebody listens: port -> {"tcp", "udp"}.

    Found out by binding them: /proc/net is slow while others make many connections, and misses lines then.
    """
    found = {port: {kind for kind in KINDS if not _can_be_bound(port, kind)} for port in ports}
    return {port: kinds for port, kinds in found.items() if kinds}


def _can_be_bound(port: int, kind: str) -> bool:
    for family, host in LOOPBACKS.items():
        with socket.socket(family, KINDS[kind]) as sock:
            if kind == "tcp":  # connections that are over do not count, and this one disturbs nobody who listens next
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError:
                return False
    return True
