"""nginx with its stream module, as Debian ships it: one worker, reloaded by SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.peer import Configured, ConfiguredPeer, Forward, Missing, Place, program_named, version_said_by

MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"))
INSTALL = "as root: apt-get install nginx libnginx-mod-stream"

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # else it wants Debian's directories
KEPT = 64  # connections to a backend that are kept for the next request: as many as the rows have clients
MANY = 1_000_000_000  # requests on a connection; after 1,000 nginx would end it

# Connections are allocated ahead, some 420 bytes each: enough for 4,000 sessions or 5,000 listeners, not for more.
CONNECTIONS = 10_000


class Nginx(ConfiguredPeer):
    """TCP and UDP."""

    name = "nginx"
    title = "nginx"
    protocols = frozenset({"tcp", "udp"})
    fronts = frozenset({"plain", "tls", "https"})

    def version(self) -> str:
        self._module()
        return version_said_by([self._program(), "-v"], r"nginx/(\S+)")

    def command(self, place: Place) -> list[str | Path]:
        scratch = place.scratch
        return [self._program(), "-p", f"{scratch}/", "-e", scratch / "log", "-c", scratch / "nginx.conf"]

    def files(self, place: Place, forwards: Sequence[Forward]) -> dict[str, str]:
        module = self._module()
        web = [forward for forward in forwards if forward.front == "https"]
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
            *(self._server(place, forward) for forward in forwards if forward not in web),
            "}",
            *(_http(place, web) if web else ()),
        ]
        return {"nginx.conf": "\n".join(lines) + "\n"}

    def reload(self, proxy: Configured) -> None:
        proxy.program.signal(signal.SIGHUP)

    def _server(self, place: Place, forward: Forward) -> str:
        servers = " ".join(f"server {host}:{port};" for host, port in forward.backends)
        listen = "udp rcvbuf=8m sndbuf=8m; proxy_timeout 60s" if forward.protocol == "udp" else "backlog=4096"
        if forward.front == "tls":
            listen += f" ssl; {_tls(place)}"
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


def _tls(place: Place) -> str:
    return f"ssl_certificate {place.certificate}; ssl_certificate_key {place.certificate}; ssl_protocols TLSv1.3"


def _http(place: Place, forwards: Sequence[Forward]) -> list[str]:
    return [
        "http {",
        "    access_log off;",
        *(f"    {kind}_temp_path {place.scratch}/{kind};" for kind in TEMPORARY),
        *(_web_server(place, forward) for forward in forwards),
        "}",
    ]


def _web_server(place: Place, forward: Forward) -> str:
    servers = " ".join(f"server {host}:{port};" for host, port in forward.backends)
    headers = {
        "Host": "$http_host",
        "Connection": '""',
        "X-Forwarded-For": "$remote_addr",
        "X-Forwarded-Proto": "$scheme",
        "X-Forwarded-Port": "$server_port",
    }
    sets = " ".join(f"proxy_set_header {name} {value};" for name, value in headers.items())
    return (
        f"    upstream {forward.name} {{ {servers} keepalive {KEPT}; keepalive_requests {MANY}; }}\n"
        f"    server {{ listen {place.host}:{forward.port} backlog=4096 ssl; {_tls(place)}; keepalive_timeout 1h; "
        f"keepalive_requests {MANY}; "
        f"location / {{ proxy_pass http://{forward.name}; proxy_http_version 1.1; {sets} }} }}"
    )
