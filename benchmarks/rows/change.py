"""Rows in which ports open and close while traffic flows: what a reload costs the others, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

from benchmarks.load import backends, load
from benchmarks.peers import Forward, Peer, Place, Proxy, reach
from benchmarks.process import Failed
from benchmarks.results import Detail, Figure, Measured
from benchmarks.rows.row import HOST, LATER, MAIN, OVERHEAD, STANDING, Bench, Row
from benchmarks.rows.standing import BACKEND, PER_SERVICE, Templates

SESSIONS: Final = 64  # that are held and used all the time
RATE: Final = 4000.0  # exchanges a second on them: a load that every peer carries with ease
VISITORS: Final = 100.0  # short connections a second beside them
OPENED: Final = 20  # ports at most; the median of so many is steady
CHURNED: Final = 200  # ports at most that open and close
PAUSE: Final = 0.02  # seconds between two ports, so that one opening does not pay for another

LOST: Final = Detail("lost", "{:,.0f} lost")


class Opening(Row):
    """From asking for a port to the first byte through it, while sessions run; and how many of those that costs."""

    opens_ports = True

    def __init__(self, standing: int, target: float) -> None:
        self.standing = standing
        self.name = f"open-port-{standing}"
        beside = f", beside {standing:,} others" if standing > 1 else ""
        details = (Detail("slowest_ms", "slowest {:,.0f}"), LOST)
        self.figures = (Figure(self.name, f"Open a port under load{beside}", "ms", "open_ms", details, target),)
        self._templates = Templates()

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        times = []
        cpu, seconds = bench.cores.load, bench.seconds
        with (
            self._proxied(bench, peer) as (proxy, later),
            load("pingpong", cpu, MAIN, seconds, connections=SESSIONS, rate=RATE) as sessions,
            load("connect", cpu, MAIN, seconds, connections=SESSIONS, rate=VISITORS) as visitors,
        ):
            sessions.go()
            visitors.go()
            end = time.monotonic() + bench.seconds
            for forward in later[:OPENED]:
                time.sleep(PAUSE)
                begun = time.monotonic()
                if begun > end:
                    break
                proxy.open(forward)
                reach(forward)
                times.append(time.monotonic() - begun)
            held, short = sessions.result(), visitors.result()
        return {
            "open_ms": median(times) * 1e3,
            "slowest_ms": max(times) * 1e3,
            "opened": float(len(times)),
            "lost": held["lost"] + sum(short["errors"].values()),
            "p999_us": held["latency_us"]["p999"],
        }

    def finish(self) -> None:
        self._templates.close()

    def duration(self, bench: Bench) -> float:
        return bench.seconds + OVERHEAD + self.standing * PER_SERVICE

    @contextmanager
    def _proxied(self, bench: Bench, peer: Peer) -> Iterator[tuple[Proxy, list[Forward]]]:
        backend = (HOST, BACKEND)
        standing = [Forward("tcp", STANDING + number, backend) for number in range(self.standing - 1)]
        forwards = [Forward("tcp", MAIN, backend), *standing]
        later = [Forward("tcp", LATER + number, backend) for number in range(OPENED)]
        with bench.scratch() as scratch, backends(bench.cores.load, echo=BACKEND):
            self._templates.lay(bench, peer, forwards, scratch)
            proxy = peer.start(Place(scratch, bench.cores.proxy, spare=tuple(later)), forwards)
            try:
                proxy.program.wait_for("its ports", proxy.is_listening, pause=0.02)
                reach(forwards[-1])
                yield proxy, later
            finally:
                proxy.stop()


class Churn(Row):
    """The slowest exchanges of others while ports open and close one after the other."""

    name = "churn"
    opens_ports = True

    def __init__(self, target: float | None = None) -> None:
        title = f"TCP p99.9 while up to {CHURNED} ports open and close"
        details = (Detail("changed", "{:,.0f} ports"), Detail("max_us", "max {:,.0f}"), LOST)
        self.figures = (Figure(self.name, title, "µs", "p999_us", details, target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        changed = 0
        with bench.proxied(peer, "echo", spare=CHURNED) as (proxy, port, later):
            options: dict[str, Any] = {"connections": SESSIONS, "rate": RATE}
            with load("pingpong", bench.cores.load, port.port, bench.seconds, **options) as sessions:
                sessions.go()
                end = time.monotonic() + bench.seconds
                for forward in later:
                    if time.monotonic() > end:
                        break
                    proxy.open(forward)
                    reach(forward)
                    proxy.close(forward)
                    changed += 1
                held = sessions.result()
        if not held["operations"]:
            raise Failed("no exchange succeeded")
        latency = {f"{name}_us": value for name, value in held["latency_us"].items()}
        return {**latency, "changed": float(changed), "lost": float(held["lost"])}
