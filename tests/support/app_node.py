"""A node in a process of its own, as people run it, driven over its Unix socket: real applications talk through it."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from harbor.model import Address
from support.port_block import port_block
from support.waiting import eventually

PATIENCE: Final = 20.0  # seconds; against hanging only
HARBOR: Final = Path(sys.executable).with_name("harbor")


class AppNode:
    """What a test asks of the node. Services and backends go by their names; backends are on this machine."""

    def __init__(self, process: subprocess.Popen[bytes], socket_path: Path, config: Path) -> None:
        self.process = process
        self.config = config
        self._socket_path = socket_path

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers; it must not refuse."""
        connection = http.client.HTTPConnection("harbor", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        try:
            connection.sock.connect(str(self._socket_path))
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            data = reply.read()
        finally:
            connection.close()
        assert reply.status < 300, data
        return json.loads(data) if data else None

    def create(self, name: str, *backends: Address | int, **wish: Any) -> int:
        """Lease a port, register backends as ``b1``, ``b2`` ... in this order, and return the port."""
        service = self.ask("POST", "/v1/services", {"name": name, **wish})
        for number, backend in enumerate(backends, 1):
            self.register(name, f"b{number}", backend)
        return int(service["port"])

    def register(self, name: str, backend_id: str, backend: Address | int, **more: Any) -> None:
        host, port = ("127.0.0.1", backend) if isinstance(backend, int) else backend
        self.ask("PUT", f"/v1/services/{name}/backends/{backend_id}", {"host": host, "port": port, **more})

    def deregister(self, name: str, backend_id: str) -> None:
        self.ask("DELETE", f"/v1/services/{name}/backends/{backend_id}")

    def service(self, name: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"/v1/services/{name}"))

    def backends(self, name: str) -> list[tuple[str, str]]:
        """Id and state of each backend, in queue order."""
        return [(backend["id"], backend["state"]) for backend in self.service(name)["backends"]]

    def ended(self, name: str, count: int) -> dict[str, int]:
        """How the sessions of a service ended, once so many have."""

        def closed() -> dict[str, int]:
            return dict(self.service(name)["closed"])

        eventually(lambda: sum(closed().values()) >= count, what=f"{count} sessions of {name} have ended")
        return closed()


@contextmanager
def app_node(directory: Path) -> Iterator[AppNode]:
    """A running node. At the end it must stop in order, and have had nothing to complain about."""
    state, log = directory / "state", directory / "node.log"
    with port_block(100) as ports, log.open("wb") as errors:
        config = directory / "harbor.yml"
        config.write_text(f"""
state_dir: {state}
api: {{listen: "127.0.0.1:0"}}
listen: {{public: "::", private: 127.0.0.1}}
ports: {{ranges: ["{ports.start}-{ports.stop - 1}"]}}
backends: {{allow: [127.0.0.0/8, "::1/128"]}}
defaults: {{drain_timeout: 1}}
log: {{format: json}}
""")
        with subprocess.Popen([HARBOR, "serve", "--config", config], stderr=errors) as process:
            try:
                eventually(lambda: b"node.ready" in log.read_bytes() or process.poll() is not None, PATIENCE)
                assert process.poll() is None, log.read_text()
                yield AppNode(process, state / "harbor.sock", config)
            finally:
                process.terminate()
                code = process.wait(PATIENCE)
    levels = {json.loads(line)["level"] for line in log.read_text().splitlines()}
    assert (code, levels) == (0, {"info"}), log.read_text()
