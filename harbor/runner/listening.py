"""Who listens where, as /proc shows it: no connection is made, so that no server sees a client that says nothing."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
TABLES: Final = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}
# The state of a socket that takes what comes: LISTEN for TCP, and for UDP what TCP calls CLOSE: not connected.
OPEN: Final = {"tcp": "0A", "udp": "07"}


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes connections or datagrams."""

    protocol: str
    host: str
    port: int
    inode: str

    def is_reached_at(self, host: str) -> bool:
        """Whether who sends to this address of the machine reaches it."""
        mine = ip_address(self.host)
        if mine.is_unspecified:
            return True
        try:
            asked = ip_address(host)
        except ValueError:  # a name: what it means is the node's business
            return not mine.is_loopback
        # An address that is not this machine's own may lead here all the same, past a router that translates.
        return mine == asked or not (mine.is_loopback or asked.is_loopback)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listeners(protocol: str, proc: Path = PROC) -> list[Listener]:
    """All of this machine, or rather of this network namespace."""
    return [found for table in TABLES[protocol] for found in _read(protocol, proc / "net" / table)]


def sockets_of(pids: Iterable[int], proc: Path = PROC) -> set[str]:
    """The inodes of the sockets that these processes hold, as far as this user may see."""
    return {link[8:-1] for pid in pids for link in _links(proc / str(pid) / "fd") if link.startswith("socket:[")}


def _read(protocol: str, table: Path) -> Iterator[Listener]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:  # no IPv6 on this machine
        return
    for line in lines:
        fields = line.split()
        if fields[3] == OPEN[protocol] and fields[9] != "0":
            host, _, port = fields[1].partition(":")
            yield Listener(protocol, _host(host), int(port, 16), fields[9])


def _host(text: str) -> str:
    """An address from /proc/net: hexadecimal words of 32 bits in the byte order of the machine."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    host = socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)
    return host.removeprefix("::ffff:") if "." in host else host


def _links(directory: Path) -> Iterator[str]:
    try:
        names = os.listdir(directory)
    except OSError:  # it ended, or belongs to another user
        return
    for name in names:
        try:
            yield os.readlink(directory / name)
        except OSError:
            continue
