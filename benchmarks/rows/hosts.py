"""Rows between three hosts, each a network namespace: what loopback hides, above all ports that run out.

One backend address allows some 28,000 outgoing ports, and whoever closes a connection first keeps its port for a
minute. So these rows run for a minute, and each measurement has hosts of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.load import backends, load
from benchmarks.peers import Forward, Peer, Place
from benchmarks.peers.peer import program_named
from benchmarks.process import Failed, Program
from benchmarks.results import Detail, Figure, Measured
from benchmarks.rows.row import CHECK, MAIN, OVERHEAD, Bench, Row, per_gigabyte, per_operation
from benchmarks.rows.traffic import AT_ONCE, ERRORS, RATE

PREFIX: Final = "hbench"  # of the namespaces; the process id follows, so that nobody's are mistaken for ours
FRONT: Final = "10.91.1"  # the network of client and proxy
BACK: Final = "10.91.2"  # the network of proxy and backend
PROXY: Final = f"{FRONT}.1"
BACKEND: Final = f"{BACK}.2"
CLIENT_FIRST: Final = 10  # last byte of the client's first address
CLIENT_ADDRESSES: Final = 32  # the client must not run out of ports before the proxy does


class Hosts:
    """Three hosts in a row: client, proxy, backend.

    Closing: ``close()`` removes them, and with them every connection they remember.
    """

    def __init__(self) -> None:
        self.client, self.proxy, self.backend = (f"{PREFIX}{os.getpid()}{side}" for side in "cpb")

    def open(self) -> None:
        """Make them. Errors: ``Failed``."""
        for name in (self.client, self.proxy, self.backend):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        self._join((self.client, "eth0", f"{FRONT}.{CLIENT_FIRST}/24"), (self.proxy, "eth0", f"{PROXY}/24"))
        self._join((self.proxy, "eth1", f"{BACK}.1/24"), (self.backend, "eth0", f"{BACKEND}/24"))
        for number in range(1, CLIENT_ADDRESSES):
            _ip("-n", self.client, "address", "add", f"{FRONT}.{CLIENT_FIRST + number}/24", "dev", "eth0")
        _ip("netns", "exec", self.client, "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535")

    def close(self) -> None:
        """Remove them."""
        for name in (self.client, self.proxy, self.backend):
            if Path("/run/netns", name).exists():
                _ip("netns", "delete", name)

    def _join(self, left: tuple[str, str, str], right: tuple[str, str, str]) -> None:
        """A cable between two hosts: (namespace, device, address) of each end."""
        (host, device, _), (other, far, _) = left, right
        _ip("-n", host, "link", "add", device, "type", "veth", "peer", "name", far, "netns", other)
        for namespace, name, address in (left, right):
            _ip("-n", namespace, "address", "add", address, "dev", name)
            _ip("-n", namespace, "link", "set", name, "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run([program_named("ip", "apt-get install iproute2"), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def remove_stale() -> None:
    """Remove the hosts of runs that were killed."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        owner = re.fullmatch(rf"{PREFIX}(\d+)[cpb]", path.name)
        if owner and not Path("/proc", owner[1]).exists():
            _ip("netns", "delete", path.name)


class HostsRow(Row):
    """A row between three hosts."""

    needs_root = True

    @contextmanager
    def proxied(self, bench: Bench, peer: Peer, kind: str) -> Iterator[tuple[Hosts, Program]]:
        """Three hosts, with a proxy on the middle one that is known to work."""
        with ExitStack() as stack:
            hosts = Hosts()
            stack.callback(hosts.close)
            hosts.open()
            scratch = stack.enter_context(bench.scratch())
            ports = stack.enter_context(backends(bench.cores.load, BACKEND, hosts.backend))
            place = Place(scratch, bench.cores.proxy, PROXY, hosts.proxy)
            forwards = [Forward("tcp", MAIN, (BACKEND, ports[kind])), Forward("tcp", CHECK, (BACKEND, ports["echo"]))]
            proxy = peer.start(place, forwards)
            stack.callback(proxy.stop)
            proxy.program.wait_for("its ports", proxy.is_listening)
            proxy.program.wait_for("a first byte", lambda: self._reached(bench, hosts), within=20.0, pause=0.05)
            yield hosts, proxy.program

    def why_not(self, peer: Peer) -> str | None:
        return "takes a minute each, and is no peer" if peer.is_baseline else super().why_not(peer)

    def prepare(self, bench: Bench, peers: Sequence[Peer]) -> None:
        remove_stale()

    def duration(self, bench: Bench) -> float:
        return bench.long_seconds + OVERHEAD + 1.0

    def _reached(self, bench: Bench, hosts: Hosts) -> bool:
        try:
            with load("pingpong", bench.cores.load, CHECK, 1, host=PROXY, namespace=hosts.client, setup=0.5):
                return True
        except Failed:
            return False


class HostsConnect(HostsRow):
    """Connect, one exchange, close, for so long that ports may run out."""

    def __init__(self, reset: bool, target: float) -> None:
        self.reset = reset
        self.name = f"hosts-connect{'-reset' * reset}"
        title = f"Three hosts: connect, one exchange, close{' by reset' * reset}"
        self.figures = (Figure(self.name, title, "µs CPU", "cpu_us", (RATE, ERRORS), target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        options: dict[str, Any] = {
            "host": PROXY,
            "connections": AT_ONCE,
            "reset": self.reset,
            "sources": CLIENT_ADDRESSES,
        }
        with (
            self.proxied(bench, peer, "echo") as (hosts, program),
            load("connect", bench.cores.load, MAIN, bench.long_seconds, namespace=hosts.client, **options) as running,
        ):
            return per_operation(running.watching(program))


class HostsBulk(HostsRow):
    """As many bytes as pass between hosts."""

    name = "hosts-bulk"

    def __init__(self, target: float) -> None:
        details = (Detail("gbit", "{:.1f} Gbit/s"), ERRORS)
        self.figures = (Figure(self.name, "Three hosts: bulk, 8 streams", "ms CPU/GB", "cpu_ms", details, target),)

    def measure(self, bench: Bench, peer: Peer) -> Measured:
        options: dict[str, Any] = {"host": PROXY, "connections": 8}
        with (
            self.proxied(bench, peer, "source") as (hosts, program),
            load("bulk", bench.cores.load, MAIN, bench.seconds, namespace=hosts.client, **options) as running,
        ):
            return per_gigabyte(running.watching(program))

    def duration(self, bench: Bench) -> float:
        return bench.seconds + OVERHEAD + 1.0
