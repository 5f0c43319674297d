"""Harbor: one process, ports leased over the API as users do it; every change is on disk before it is answered."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.peer import Forward, Missing, Peer, Place, Proxy
from benchmarks.process import STOP, Failed, Program
from benchmarks.unix_http import UnixConnection
from harbor import __version__, compiled

FIRST_PORT: Final = 20_000  # the ports of all peers: below the kernel's ephemeral ones, apart from Harbor's default
LAST_PORT: Final = 29_999
PATIENCE: Final = 20.0

SERVE: Final = """\
import os, pathlib, sys
os.environ["HARBOR_PURE"] = sys.argv[2]
from harbor.config import load
from harbor.daemon import serve
sys.exit(serve(load(pathlib.Path(sys.argv[1]), os.environ)))
"""


class HarborPeer(Peer):
    """TCP and UDP, in a process of its own, with the data path compiled. Missing where nobody has compiled it."""

    name = "harbor"
    title = "Harbor"
    protocols = frozenset({"tcp", "udp"})
    fronts = frozenset({"plain", "tls", "https"})
    plain = False

    def version(self) -> str:
        if not self.plain and not compiled.is_current():
            raise Missing("the data path is not compiled; run make compiled (it needs a C compiler)")
        return __version__

    def start(self, place: Place, forwards: Sequence[Forward]) -> Proxy:
        return HarborNode(place, forwards, self.plain)

    def fill(self, place: Place, forwards: Sequence[Forward]) -> None:
        HarborNode(place, forwards, self.plain).stop(PATIENCE)


class PlainHarbor(HarborPeer):
    """The same with its source interpreted: what a compiler gives, and what there is without one."""

    name = "plain"
    title = "Harbor, not compiled"
    is_baseline = True
    opens_ports = False
    plain = True


class HarborNode(Proxy):
    """A node with its state in the scratch directory. Started again there, it has its services again."""

    def __init__(self, place: Place, forwards: Sequence[Forward], plain: bool) -> None:
        super().__init__(place, forwards)
        state = place.scratch / "state"
        is_new = not state.exists()
        state.mkdir(mode=0o700, exist_ok=True)
        if place.certificate.exists():
            certs = place.scratch / "certs"
            certs.mkdir(exist_ok=True)
            for name in ("harbor.crt", "harbor.key"):
                shutil.copy(place.certificate, certs / name)
        config = place.scratch / "harbor.yml"
        config.write_text(json.dumps(configuration(place, state)))
        self.program = Program(
            [sys.executable, "-c", SERVE, config, str(int(plain))],
            place.cpu,
            log=place.scratch / "log",
            namespace=place.namespace,
        )
        self._socket = state / "harbor.sock"
        self._api: UnixConnection | None = None
        if is_new:
            try:
                self.program.wait_for("its API", self._socket.exists)
                for forward in forwards:
                    self.open(forward)
            except BaseException:
                self.stop()
                raise

    def open(self, forward: Forward) -> None:
        self.forwards[forward.port] = forward
        service: dict[str, Any] = {
            "name": forward.name,
            "protocol": forward.protocol,
            "port": forward.port,
            "max_sessions": 0,
        }
        if forward.front != "plain":
            service |= {"tls": "node", "http": forward.front == "https", "tls_rules": {"min_version": "1.3"}}
        self._ask("POST", "/v1/services", service)
        for number, (host, port) in enumerate(forward.backends):
            self._ask("PUT", f"/v1/services/{forward.name}/backends/b{number}", {"host": host, "port": port})

    def close(self, forward: Forward) -> None:
        del self.forwards[forward.port]
        self._ask("DELETE", f"/v1/services/{forward.name}")

    def stop(self, patience: float = STOP) -> None:
        if self._api is not None:
            self._api.close()
        super().stop(patience)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        if self._api is None:
            self._api = UnixConnection(self._socket, PATIENCE)
        self._api.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        reply = self._api.getresponse()
        text = reply.read()
        if reply.status >= 300:
            raise Failed(f"harbor: {method} {path}: {reply.status} {text.decode()[:200]}")


def configuration(place: Place, state: Path) -> dict[str, Any]:
    """harbor.yml for one benchmark (YAML written as JSON)."""
    return {
        "state_dir": str(state),
        "certs_dir": str(place.scratch / "certs"),
        "listen": {"public": place.host, "private": place.host},
        "ports": {"ranges": [f"{FIRST_PORT}-{LAST_PORT}"]},
        "api": {"listen": "127.0.0.1:0"},
        "backends": {"allow": ["127.0.0.0/8", "10.0.0.0/8"]},
        "defaults": {"drain_timeout": 0},
        "log": {"level": "warning", "format": "json"},
    }
