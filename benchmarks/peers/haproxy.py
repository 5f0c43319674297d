"""HAProxy, as Debian ships it: one thread, master-worker mode, reloaded by SIGUSR2 without closing its sockets."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import Configured, ConfiguredPeer, Forward, Place, program_named, version_said_by

GLOBAL = """\
global
    nbthread 1

defaults
    mode tcp
    backlog 4096
    timeout connect 5s
    timeout client 1h
    timeout server 1h
"""


HTTP = (
    "    mode http",
    "    option forwardfor",
    "    http-request set-header X-Forwarded-Proto https",
    "    http-request set-header X-Forwarded-Port %[dst_port]",
)

LOADED = "Loading success."  # what the master says after the start and after each reload
BEGUN = "Reloading HAProxy"  # what it says when a signal has reached it
PAUSE = 0.002  # seconds for a signal to arrive


class HAProxy(ConfiguredPeer):
    """TCP only: HAProxy does not forward UDP in general."""

    name = "haproxy"
    title = "HAProxy"
    fronts = frozenset({"plain", "tls", "https"})

    def version(self) -> str:
        return version_said_by([self._program(), "-v"], r"[Vv]ersion (\d+(?:\.\d+)+)")

    def command(self, place: Place) -> list[str | Path]:
        return [self._program(), "-W", "-db", "-f", place.scratch / "haproxy.cfg"]

    def files(self, place: Place, forwards: Sequence[Forward]) -> dict[str, str]:
        return {"haproxy.cfg": GLOBAL + "".join(_listen(place, forward) for forward in forwards)}

    def reload(self, proxy: Configured) -> None:
        # A signal that comes while the master still reloads may be lost: wait for the last one, see this one begin.
        log = proxy.place.scratch / "log"
        proxy.program.wait_for("its last reload", lambda: log.read_text().count(LOADED) > log.read_text().count(BEGUN))
        before = log.read_text().count(BEGUN)
        while log.read_text().count(BEGUN) == before:
            proxy.program.check()
            proxy.program.signal(signal.SIGUSR2)
            time.sleep(PAUSE)

    def _program(self) -> Path:
        return program_named("haproxy", "as root: apt-get install haproxy")


def _listen(place: Place, forward: Forward) -> str:
    tls = "" if forward.front == "plain" else f" ssl crt {place.certificate} ssl-min-ver TLSv1.3"
    lines = [
        f"\nlisten {forward.name}",
        f"    bind {place.host}:{forward.port}{tls}",
        *(HTTP if forward.front == "https" else ()),
        *(f"    server backend{number} {host}:{port}" for number, (host, port) in enumerate(forward.backends)),
    ]
    return "\n".join(lines) + "\n"
