"""Rows in which the proxy ends TLS: it forwards what is in it, or, in the https rows, reads it as HTTP on the way.

All have the same certificate (ECDSA P-256), TLS 1.3 with the cipher that the load offers, and tickets as they come.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.load import Window, load
from benchmarks.peers import Peer
from benchmarks.peers.peer import Front
from benchmarks.process import Failed
from benchmarks.results import Detail, Figure, Measured
from benchmarks.rows.row import MB, Bench, Row, per_gigabyte, per_operation
from benchmarks.rows.traffic import ADDRESSES, AT_ONCE, ERRORS, LOST, RATE

CLIENTS: Final = 64  # that ask over connections they keep
BEHIND: Final[dict[Front, str]] = {"tls": "echo", "https": "web"}  # the backend whose answer ends an exchange
TITLES: Final[dict[Front, str]] = {"tls": "TLS", "https": "HTTPS"}


class TlsConnect(Row):
    """Connect, handshake, one exchange, close; over and over."""

    def __init__(self, front: Front, resume: bool, target: float | None = None) -> None:
        self.front = front
        self.resume = resume
        self.name = f"{front}-{'resume' if resume else 'connect'}"
        kind = "resumed" if resume else "full"
        exchange = "exchange" if front == "tls" else "request"
        title = f"{TITLES[front]} connect, {kind} handshake, one {exchange}, close"
        self.figures = (Figure(self.name, title, "µs CPU", "cpu_us", (RATE, ERRORS), target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        options: dict[str, Any] = {"connections": AT_ONCE, "sources": ADDRESSES, "resume": self.resume}
        options |= _spoken(self.front)
        with (
            bench.proxied(peer, BEHIND[self.front], addresses=ADDRESSES, front=self.front) as (proxy, port, _),
            load("connect", bench.cores.load, port.port, bench.seconds, **options) as running,
        ):
            window = running.watching(proxy.program)
        check_resumed(window, self.resume)
        return per_operation(window)


class TlsRequests(Row):
    """Requests and responses over held connections, as fast as answers come."""

    def __init__(self, front: Front, target: float) -> None:
        self.front = front
        self.name = f"{front}-requests"
        how = "forwarded as bytes" if front == "tls" else "read as HTTP"
        title = f"HTTPS requests, {CLIENTS} connections, {how}"
        self.figures = (Figure(self.name, title, "µs CPU", "cpu_us", (RATE, LOST, ERRORS), target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        options: dict[str, Any] = {"connections": CLIENTS, "tls": True, "http": True}
        with (
            bench.proxied(peer, "web", front=self.front) as (proxy, port, _),
            load("pingpong", bench.cores.load, port.port, bench.seconds, **options) as running,
        ):
            return per_operation(running.watching(proxy.program))


class TlsBulk(Row):
    """As many bytes as pass."""

    front = "tls"

    def __init__(self, streams: int, up: bool, target: float) -> None:
        self.streams, self.up = streams, up
        self.name = f"tls-bulk-{streams}{'-up' * up}"
        direction = "to the backend" if up else "to the client"
        title = f"TLS bulk {direction}, {streams} stream{'s' * (streams > 1)}"
        details = (Detail("gbit", "{:.1f} Gbit/s"), ERRORS)
        self.figures = (Figure(self.name, title, "ms CPU/GB", "cpu_ms", details, target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        options: dict[str, Any] = {"connections": self.streams, "up": self.up, "tls": True}
        with (
            bench.proxied(peer, "sink" if self.up else "source", front=self.front) as (proxy, port, _),
            load("bulk", bench.cores.load, port.port, bench.seconds, **options) as running,
        ):
            return per_gigabyte(running.watching(proxy.program))


class TlsIdle(Row):
    """What a session costs that was used once and is held."""

    def __init__(self, front: Front, connections: int, target: float) -> None:
        self.front = front
        self.connections = connections
        self.name = f"{front}-idle"
        title = f"Memory per idle {TITLES[front]} session ({connections:,} held)"
        details = (Detail("base_mb", "base {:.0f} MB"), Detail("errors", "{:,.0f} errors", True))
        self.figures = (Figure(self.name, title, "bytes", "bytes", details, target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        options: dict[str, Any] = {"connections": self.connections, **_spoken(self.front)}
        with bench.proxied(peer, BEHIND[self.front], front=self.front) as (proxy, port, _):
            before = proxy.program.memory()
            with load("idle", bench.cores.load, port.port, bench.seconds, **options) as running:
                running.go()
                running.result()
                held = proxy.program.memory() - before
        return {"bytes": held / self.connections, "base_mb": before / MB}


def check_resumed(window: Window, resume: bool) -> None:
    """Whether the handshakes were what the row is about. Errors: ``Failed``.

    The first of each connection under way cannot be resumed, and one that is not over yet is not an operation.
    """
    resumed, operations = int(window.result["resumed"]), window.operations
    if not resume and resumed:
        raise Failed(f"{resumed} of {operations} handshakes were resumed")
    if resume and resumed < operations - AT_ONCE:
        raise Failed(f"only {resumed} of {operations} handshakes were resumed")


def _spoken(front: Front) -> dict[str, bool]:
    return {"tls": True, "http": front == "https"}
