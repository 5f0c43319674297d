"""nginx with its stream module, as Debian ships it: one worker, reloaded by SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import Configured, ConfiguredPeer, Forward, Missing, Place, program_named, version_said_by

MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"))
INSTALL = "as root: apt-get install nginx libnginx-mod-stream"

# Connections are allocated ahead, some 420 bytes each: enough for 4,000 sessions or 5,000 listeners, not for more.
CONNECTIONS = 10_000


class Nginx(ConfiguredPeer):
    """TCP and UDP."""

    name = "nginx"
    title = "nginx"
    protocols = frozenset({"tcp", "udp"})

    def version(self) -> str:
        self._module()
        return version_said_by([self._program(), "-v"], r"nginx/(\S+)")

    def command(self, place: Place) -> list[str | Path]:
        scratch = place.scratch
        return [self._program(), "-p", f"{scratch}/", "-e", scratch / "log", "-c", scratch / "nginx.conf"]

    def files(self, place: Place, forwards: Sequence[Forward]) -> dict[str, str]:
        module = self._module()
        lines = [
            *([f"load_module {module};"] if module else []),
            "daemon off;",
            "worker_processes 1;",
            f"worker_rlimit_nofile {2 * CONNECTIONS};",
            f"pid {place.scratch}/nginx.pid;",
            f"events {{ worker_connections {CONNECTIONS}; }}",
            "stream {",
            "    proxy_connect_timeout 5s;",
            "    proxy_timeout 1h;",
            *(self._server(place, forward) for forward in forwards),
            "}",
        ]
        return {"nginx.conf": "\n".join(lines) + "\n"}

    def reload(self, proxy: Configured) -> None:
        proxy.program.signal(signal.SIGHUP)

    def _server(self, place: Place, forward: Forward) -> str:
        servers = " ".join(f"server {host}:{port};" for host, port in forward.backends)
        listen = "udp rcvbuf=8m sndbuf=8m; proxy_timeout 60s" if forward.protocol == "udp" else "backlog=4096"
        return (
            f"    upstream {forward.name} {{ {servers} }}\n"
            f"    server {{ listen {place.host}:{forward.port} {listen}; proxy_pass {forward.name}; }}"
        )

    def _program(self) -> Path:
        return program_named("nginx", INSTALL)

    def _module(self) -> Path | None:
        """The file of the stream module; None where it is built in."""
        for folder in MODULES:
            if (folder / "ngx_stream_module.so").exists():
                return folder / "ngx_stream_module.so"
        if "--with-stream" in version_said_by([self._program(), "-V"], r"(?s)(.*)").replace(
            "--with-stream=dynamic", ""
        ):
            return None
        raise Missing(f"nginx has no stream module; {INSTALL}")
