"""Who holds a port: what /proc tells about a bind that failed. Reads many small files, so keep it off the loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harbor.model import Protocol

TABLES: Final = {"tcp": ("tcp", "tcp6"), "udp": ("udp", "udp6")}
LISTEN: Final = "0A"


def find_squatter(port: int, protocol: Protocol, proc: Path = Path("/proc")) -> str | None:
    """Say in words who holds the port ("pid 4711 (nginx)"), or None where /proc does not show it.

    A listening socket is named before a connection that merely uses the number as its source port.
    """
    found: dict[str, str] = {}
    for kind in ("tcp", "udp"):
        if protocol in (kind, Protocol.BOTH):
            found |= _sockets_on(port, kind, proc)
    if not found:
        return None
    holder = _holder_of(found, proc)
    if holder is not None:
        return holder
    return f"a socket of uid {next(iter(found.values()))} whose process is not visible to this user"


def _sockets_on(port: int, kind: str, proc: Path) -> dict[str, str]:
    """inode → uid of the sockets on this local port, listening ones first."""
    rows: list[tuple[bool, str, str]] = []
    for table in TABLES[kind]:
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0":
                rows.append((fields[3] != LISTEN, fields[9], fields[7]))
    return {inode: uid for _, inode, uid in sorted(rows)}


def _holder_of(inodes: dict[str, str], proc: Path) -> str | None:
    wanted = {f"socket:[{inode}]": rank for rank, inode in enumerate(inodes)}
    best: tuple[int, str] | None = None
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            ranks = [wanted[link] for link in _links(process / "fd") if link in wanted]
            if ranks and (best is None or min(ranks) < best[0]):
                command = (process / "comm").read_text().strip()
                best = (min(ranks), f"pid {process.name} ({command})")
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
    return best[1] if best else None


def _links(directory: Path) -> Iterator[str]:
    """Where the descriptors of a process lead; one that is closed meanwhile hides no other."""
    for name in os.listdir(directory):
        try:
            yield os.readlink(directory / name)
        except FileNotFoundError:
            continue
