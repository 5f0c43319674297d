"""Rows in which bytes move: ping-pong, connections, bulk, datagrams; and latency at equal load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from benchmarks.load import load
from benchmarks.peers import Peer
from benchmarks.process import Failed
from benchmarks.results import Detail, Figure, Measured
from benchmarks.rows.row import OVERHEAD, Bench, Row, per_gigabyte, per_operation

ADDRESSES: Final = 16  # of clients and of the backend, in the connect rows: ports must not run out
AT_ONCE: Final = 16  # connections that the connect rows open at a time: enough to keep a proxy busy
SHARE: Final = 0.6  # of the slowest peer's capacity: the load of the latency row

RATE: Final = Detail("rate", "{:,.0f}/s")
ERRORS: Final = Detail("errors", "{:,.0f} errors", only_if_not_zero=True)
LOST: Final = Detail("lost", "{:,.0f} lost", only_if_not_zero=True)


class PingPong(Row):
    """128 bytes there and back over held connections, as fast as answers come."""

    def __init__(self, connections: int, target: float) -> None:
        self.connections = connections
        self.name = f"pingpong-{connections}"
        title = f"TCP ping-pong, 128 B, {connections:,} connection{'s' * (connections > 1)}"
        self.figures = (Figure(self.name, title, "µs CPU", "cpu_us", (RATE, LOST, ERRORS), target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        with (
            bench.proxied(peer, "echo") as (proxy, port, _),
            load("pingpong", bench.cores.load, port.port, bench.seconds, connections=self.connections) as running,
        ):
            return per_operation(running.watching(proxy.program))


class Connect(Row):
    """Connect, one exchange, close; over and over."""

    def __init__(self, reset: bool, target: float) -> None:
        self.reset = reset
        self.name = "connect-reset" if reset else "connect"
        title = f"TCP connect, one exchange, close{' by reset' * reset}"
        self.figures = (Figure(self.name, title, "µs CPU", "cpu_us", (RATE, ERRORS), target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        options: dict[str, Any] = {"connections": AT_ONCE, "reset": self.reset, "sources": ADDRESSES}
        with (
            bench.proxied(peer, "echo", addresses=ADDRESSES) as (proxy, port, _),
            load("connect", bench.cores.load, port.port, bench.seconds, **options) as running,
        ):
            return per_operation(running.watching(proxy.program))


class Bulk(Row):
    """As many bytes as pass."""

    def __init__(self, streams: int, up: bool, target: float) -> None:
        self.streams, self.up = streams, up
        self.name = f"bulk-{streams}{'-up' * up}"
        direction = "to the backend" if up else "to the client"
        title = f"TCP bulk {direction}, {streams} stream{'s' * (streams > 1)}"
        details = (Detail("gbit", "{:.1f} Gbit/s"), ERRORS)
        self.figures = (Figure(self.name, title, "ms CPU/GB", "cpu_ms", details, target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        kind = "sink" if self.up else "source"
        with (
            bench.proxied(peer, kind) as (proxy, port, _),
            load("bulk", bench.cores.load, port.port, bench.seconds, connections=self.streams, up=self.up) as running,
        ):
            return per_gigabyte(running.watching(proxy.program))


class UdpEcho(Row):
    """128 bytes there and back, one datagram under way in each flow."""

    protocol = "udp"

    def __init__(self, flows: int, target: float) -> None:
        self.flows = flows
        self.name = f"udp-{flows}"
        title = f"UDP echo, 128 B, {flows:,} flow{'s' * (flows > 1)}"
        self.figures = (Figure(self.name, title, "µs CPU", "cpu_us", (RATE, LOST, ERRORS), target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        with (
            bench.proxied(peer, "udp") as (proxy, port, _),
            load("udp", bench.cores.load, port.port, bench.seconds, connections=self.flows) as running,
        ):
            return per_operation(running.watching(proxy.program))


class UdpOneWay(Row):
    """Datagrams at a steady rate in one direction; those that do not arrive are counted."""

    protocol = "udp"
    flows = 16

    def __init__(self, rate: int, target: float) -> None:
        self.rate = rate
        self.name = "udp-oneway"
        title = f"UDP one way, {rate:,} datagrams/s"
        details = (Detail("lost_percent", "{:.2f} % lost"), ERRORS)
        self.figures = (Figure(self.name, title, "µs CPU", "cpu_us", details, target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        with bench.proxied(peer, "oneway") as (proxy, port, _):
            options: dict[str, Any] = {"rate": self.rate, "sink": port.backend[1], "connections": self.flows}
            with load("oneway", bench.cores.load, port.port, bench.seconds, **options) as running:
                numbers = per_operation(running.watching(proxy.program))
                return {**numbers, "lost_percent": 100 * numbers["lost"] / numbers["sent"]}


class Latency(Row):
    """Every peer gets the same load: a share of what the slowest can take."""

    name = "latency"
    connections = 64

    def __init__(self, target: float) -> None:
        title = f"TCP p99 at equal load ({SHARE:.0%} of the slowest peer's)"
        details = (Detail("offered", "at {:,.0f}/s"), Detail("p50_us", "p50 {:,.0f}"), LOST)
        self.figures = (Figure(self.name, title, "µs", "p99_us", details, target),)
        self.rate = 0.0
        self._refusal = "the capacity of no peer could be measured"

    def prepare(self, bench: Bench, peers: Sequence[Peer]) -> None:
        capacities = []
        for peer in peers:
            if not peer.is_baseline:
                try:
                    capacities.append(PingPong(self.connections, 0).measure(bench, peer)["rate"])
                except Failed as error:
                    self._refusal = str(error)
        self.rate = round(SHARE * min(capacities, default=0), -2)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        if not self.rate:
            raise Failed(self._refusal)
        options: dict[str, Any] = {"connections": self.connections, "rate": self.rate}
        with (
            bench.proxied(peer, "echo") as (proxy, port, _),
            load("pingpong", bench.cores.load, port.port, bench.seconds, **options) as running,
        ):
            return {**per_operation(running.watching(proxy.program)), "offered": self.rate}

    def duration(self, bench: Bench) -> float:
        return 2 * (bench.seconds + OVERHEAD)  # the capacities are measured first
