"""Rows in which nothing moves: connections that are idle, and nodes full of services that nobody uses."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks.load import backends, load
from benchmarks.peers import Forward, Peer, Place, Proxy, reach
from benchmarks.results import Detail, Figure, Measured
from benchmarks.rows.row import HOST, MB, OVERHEAD, STANDING, Bench, Row

BACKEND: Final = STANDING - 1  # the same port in every round, because a state that is kept names it
SETTLE: Final = 1.0  # seconds after the start in which a peer may still tidy up
PER_SERVICE: Final = 0.004  # seconds, roughly, that a service adds to a start; the first round also makes the state


class Templates:
    """What peers keep of many services, made once per peer and copied for every round.

    Closing: ``close()`` removes them.
    """

    def __init__(self) -> None:
        self._kept = ExitStack()
        self._made: dict[str, Path] = {}

    def lay(self, bench: Bench, peer: Peer, forwards: list[Forward], scratch: Path) -> None:
        """Put into ``scratch`` what a start with these ports expects there."""
        if peer.name not in self._made:
            directory = self._kept.enter_context(bench.scratch())
            peer.fill(Place(directory, bench.cores.proxy), forwards)
            self._made[peer.name] = directory
        shutil.copytree(self._made[peer.name], scratch, dirs_exist_ok=True)

    def close(self) -> None:
        """Remove what was made."""
        self._kept.close()
        self._made.clear()


class Idle(Row):
    """What a connection costs that was used once and is held."""

    def __init__(self, connections: int, target: float) -> None:
        self.connections = connections
        self.name = "idle"
        title = f"Memory per idle connection ({connections:,} held)"
        details = (Detail("base_mb", "base {:.0f} MB"), Detail("errors", "{:,.0f} errors", True))
        self.figures = (Figure(self.name, title, "bytes", "bytes", details, target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        with bench.proxied(peer, "echo") as (proxy, port, _):
            before = proxy.program.memory()
            with load("idle", bench.cores.load, port.port, bench.seconds, connections=self.connections) as running:
                running.go()
                running.result()
                held = proxy.program.memory() - before
        return {"bytes": held / self.connections, "base_mb": before / MB}

    def duration(self, bench: Bench) -> float:
        return OVERHEAD + 1.0


class Node(Row):
    """A node with many services, at the start and idle. Harbor finds them in its state, the others in their files."""

    def __init__(self, services: int) -> None:
        self.services = services
        self.name = f"node-{services}"
        title = f"{services:,} services"
        cpu = Detail("start_cpu", "{:.2f} s CPU")
        self.figures = (
            Figure(f"{self.name}-start", f"{title}: start until the last answers", "s", "start_s", (cpu,)),
            Figure(f"{self.name}-memory", f"{title}: memory", "MB", "memory_mb"),
            Figure(f"{self.name}-idle", f"{title}: CPU while idle", "ms CPU/s", "idle_ms"),
        )
        self._templates = Templates()

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        forwards = [Forward("tcp", STANDING + number, (HOST, BACKEND)) for number in range(self.services)]
        with bench.scratch() as scratch, backends(bench.cores.load, echo=BACKEND):
            self._templates.lay(bench, peer, forwards, scratch)
            begun = time.monotonic()
            proxy = peer.start(Place(scratch, bench.cores.proxy), forwards)
            try:
                proxy.program.wait_for("its ports", proxy.is_listening, pause=0.02)
                reach(forwards[-1])
                start = {"start_s": time.monotonic() - begun, "start_cpu": proxy.program.cpu_seconds()}
                time.sleep(SETTLE)
                return {**start, "memory_mb": proxy.program.memory() / MB, "idle_ms": _idle(proxy, bench.seconds)}
            finally:
                proxy.stop()

    def finish(self) -> None:
        self._templates.close()

    def duration(self, bench: Bench) -> float:
        return bench.seconds + OVERHEAD + SETTLE + self.services * PER_SERVICE


def _idle(proxy: Proxy, seconds: float) -> float:
    """Milliseconds of processor time per second in which nothing happens."""
    before, begun = proxy.program.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (proxy.program.cpu_seconds() - before) / (time.monotonic() - begun) * 1e3
