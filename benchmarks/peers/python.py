"""The Python baselines: pproxy from PyPI, and the plainest proxy that asyncio's streams allow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import WHEELS, Configured, ConfiguredPeer, Forward, Missing, Place, version_said_by


class PProxy(ConfiguredPeer):
    """TCP tunnels. It takes its ports from the command line, so they stay what they are."""

    name = "pproxy"
    title = "pproxy"
    is_baseline = True
    opens_ports = False

    def version(self) -> str:
        return version_said_by([self._program(), "--version"], r"(\d+(?:\.\d+)+)")

    def command(self, place: Place) -> list[str | Path]:
        listens = (place.scratch / "listen").read_text().splitlines()
        return [self._program(), *(word for listen in listens for word in ("-l", listen))]

    def files(self, place: Place, forwards: Sequence[Forward]) -> dict[str, str]:
        tunnels = (
            f"tunnel{{{host}:{port}}}://{place.host}:{forward.port}"
            for forward in forwards
            for host, port in [forward.backend]
        )
        return {"listen": "\n".join(tunnels)}

    def reload(self, proxy: Configured) -> None:
        raise NotImplementedError("pproxy takes its ports from the command line")

    def _program(self) -> Path:
        path = WHEELS / "bin" / "pproxy"
        if not path.exists():
            raise Missing("pproxy is not installed; run make bench-setup")
        return path


class Streams(ConfiguredPeer):
    """streams_proxy.py, on this very Python."""

    name = "streams"
    title = "asyncio streams"
    protocols = frozenset({"tcp", "udp"})
    is_baseline = True
    opens_ports = False

    def version(self) -> str:
        return f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"

    def command(self, place: Place) -> list[str | Path]:
        return [sys.executable, Path(__file__).with_name("streams_proxy.py"), place.scratch / "forwards"]

    def files(self, place: Place, forwards: Sequence[Forward]) -> dict[str, str]:
        lines = (f"{f.protocol} {place.host} {f.port} {f.backend[0]} {f.backend[1]}" for f in forwards)
        return {"forwards": "\n".join(lines)}

    def reload(self, proxy: Configured) -> None:
        raise NotImplementedError("the baseline reads its ports once")
