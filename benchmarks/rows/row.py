"""What a row is, and the bench that it is measured on."""

from __future__ import annotations

import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import certificate
from benchmarks.load import Window, backends
from benchmarks.machine import Cores
from benchmarks.peers import Forward, Peer, Place, Proxy, reach
from benchmarks.peers.harbor import FIRST_PORT
from benchmarks.peers.peer import Front, Protocol
from benchmarks.results import Figure, Measured

HOST: Final = "127.0.0.1"
EVERYWHERE: Final = "0.0.0.0"
MAIN: Final = FIRST_PORT  # the port that the load uses
CHECK: Final = FIRST_PORT + 1  # an echo beside it, to see that the proxy works
STANDING: Final = FIRST_PORT + 10  # from here on: services that only exist
LATER: Final = FIRST_PORT + 6000  # from here on: ports that are opened while it runs

LACKING: Final[dict[Front, str]] = {
    "plain": "forwards HTTP only",
    "tls": "is not set up to end TLS",
    "https": "is not set up for HTTPS",
}

MICRO: Final = 1e6
GB: Final = 1e9
MB: Final = 1e6
OVERHEAD: Final = 1.5  # seconds to start a proxy, set up the load and stop both


@dataclass(frozen=True, slots=True)
class Bench:
    """The circumstances of all measurements. ``seconds`` is how long the load runs in each."""

    cores: Cores
    seconds: float
    long_seconds: float  # for what needs time to show, like ports that run out

    @contextmanager
    def proxied(
        self, peer: Peer, kind: str, spare: int = 0, addresses: int = 1, front: Front = "plain"
    ) -> Iterator[tuple[Proxy, Forward, list[Forward]]]:
        """A proxy with one port before a backend of this kind, warm; and ports that it may be asked to open.

        The backend has so many ``addresses``.

        Kinds: echo, source, sink, web, udp, and oneway, whose backend is a UDP port that the load will bind itself.
        """
        with self.scratch() as scratch, backends(self.cores.load, EVERYWHERE) as ports:
            ports["oneway"] = _free_udp_port()
            protocol: Protocol = "udp" if kind in ("udp", "oneway") else "tcp"
            main = Forward(protocol, MAIN, (HOST, ports[kind]), addresses, front)
            later = [Forward("tcp", LATER + number, (HOST, ports["echo"])) for number in range(spare)]
            # An echo over TCP proves that a proxy is up, where the port itself would not.
            check = main if front == "https" else Forward("tcp", CHECK, (HOST, ports["echo"]))
            place = Place(scratch, self.cores.proxy, spare=tuple(later))
            if front != "plain":
                certificate.put(place.certificate)
            proxy = peer.start(place, [main] if check is main else [main, check])
            try:
                proxy.program.wait_for("its ports", proxy.is_listening)
                reach(check)
                if kind in ("echo", "web", "udp"):
                    reach(main)
                yield proxy, main, later
            finally:
                proxy.stop()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory that is gone afterwards. Short, because a Unix socket's path must be; readable by workers."""
        with tempfile.TemporaryDirectory(prefix="hb-", ignore_cleanup_errors=True) as path:
            Path(path).chmod(0o755)
            yield Path(path)


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


class Row(ABC):
    """One kind of work. ``measure`` runs it once against one peer and gives its numbers by name."""

    name: str
    figures: tuple[Figure, ...]
    protocol: Protocol = "tcp"
    front: Front = "plain"
    opens_ports = False  # needs a peer that can be told of ports while it runs
    needs_root = False

    @abstractmethod
    def measure(self, bench: Bench, peer: Peer) -> Measured:
        """One measurement. Errors: ``Failed``."""

    def prepare(self, bench: Bench, peers: Sequence[Peer]) -> None:  # noqa: B027 (most rows need nothing)
        """What has to be known before the first round."""

    def finish(self) -> None:  # noqa: B027 (most rows keep nothing)
        """Give back what ``prepare`` or ``measure`` kept between the rounds."""

    def duration(self, bench: Bench) -> float:
        """Seconds that one measurement takes, roughly, for the first estimate of what is left."""
        return bench.seconds + OVERHEAD

    def why_not(self, peer: Peer) -> str | None:
        """Why this peer has no place in this row; None if it has."""
        if self.protocol not in peer.protocols:
            return f"does not forward {self.protocol.upper()}"
        if self.front not in peer.fronts:
            return LACKING[self.front]
        if self.opens_ports and not peer.opens_ports:
            return "cannot open ports while it runs"
        return None


def per_operation(window: Window) -> dict[str, float]:
    """The numbers that every row with operations has: processor time of proxy and machine, rate, errors, latency."""
    numbers = {
        "cpu_us": window.cpu / window.operations * MICRO,
        "machine_us": window.machine / window.operations * MICRO,
        "rate": window.rate,
        "errors": float(window.error_count),
    }
    for name, value in window.result.get("latency_us", {}).items():
        numbers[f"{name}_us"] = value
    for name in ("lost", "late", "unfinished", "sent"):
        if name in window.result:
            numbers[name] = float(window.result[name])
    return numbers


def per_gigabyte(window: Window) -> dict[str, float]:
    """The numbers of a bulk row. ``least_share``: what the slowest stream got, as a share of an equal part."""
    gigabytes = window.operations / GB
    return {
        "cpu_ms": window.cpu * 1e3 / gigabytes,
        "machine_ms": window.machine * 1e3 / gigabytes,
        "gbit": window.rate * 8 / GB,
        "least_share": window.result["least"] * window.result["streams"] / window.operations,
        "errors": float(window.error_count),
    }
